"""boto3 against the local KMS: every operation, and the errors that AWS answers with."""

import json
import subprocess
import sys

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

from common import Checks, Simulator

CONTEXT = {"tenant": "acme", "purpose": "payments"}


def error_of(call, **arguments):
    """Name and text of the error that a call ends in."""
    try:
        call(**arguments)
    except ClientError as error:
        return error.response["Error"]["Code"], error.response["Error"].get("Message", "")
    return "", ""


def keys(check, kms):
    made = kms.create_key(Description="boto3", Tags=[{"TagKey": "team", "TagValue": "peers"}])["KeyMetadata"]
    arn, key_id = made["Arn"], made["KeyId"]
    check.that("CreateKey gives an ARN", arn.endswith(f":key/{key_id}"), arn)
    check.equal("CreateKey gives a symmetric key", (made["KeySpec"], made["KeyState"]), ("SYMMETRIC_DEFAULT", "Enabled"))
    check.equal("DescribeKey by id", kms.describe_key(KeyId=key_id)["KeyMetadata"]["Arn"], arn)
    missing = "arn:aws:kms:eu-west-1:111122223333:key/00000000-0000-4000-8000-000000000000"
    check.equal("a key that is not there", error_of(kms.describe_key, KeyId=missing), ("NotFoundException", f"Key '{missing}' does not exist"))

    for _ in range(2):
        kms.create_key()
    listed = []
    for page in kms.get_paginator("list_keys").paginate(PaginationConfig={"PageSize": 1}):
        check.that("a page of ListKeys has one key", len(page["Keys"]) <= 1)
        listed += [key["KeyArn"] for key in page["Keys"]]
    check.that("pages of ListKeys have every key once", arn in listed and len(set(listed)) == len(listed), listed)
    check.equal("a bad marker", error_of(kms.list_keys, Marker="nonsense")[0], "InvalidMarkerException")

    kms.create_alias(AliasName="alias/peers", TargetKeyId=key_id)
    names = [alias["AliasName"] for alias in kms.list_aliases()["Aliases"]]
    check.that("ListAliases has the alias", "alias/peers" in names, names)
    check.equal("an alias that exists", error_of(kms.create_alias, AliasName="alias/peers", TargetKeyId=key_id)[0], "AlreadyExistsException")
    check.equal("DescribeKey by alias", kms.describe_key(KeyId="alias/peers")["KeyMetadata"]["Arn"], arn)
    return arn, key_id


def policies(check, kms, arn):
    policy = kms.get_key_policy(KeyId=arn, PolicyName="default")["Policy"]
    check.that("GetKeyPolicy gives JSON", "Statement" in json.loads(policy))
    kms.put_key_policy(KeyId=arn, PolicyName="default", Policy=policy)
    check.equal("PutKeyPolicy keeps it", kms.get_key_policy(KeyId=arn)["Policy"], policy)
    bad = error_of(kms.put_key_policy, KeyId=arn, PolicyName="default", Policy="not json")
    check.equal("a policy that is none", bad[0], "MalformedPolicyDocumentException")
    nobody = json.dumps({"Version": "2012-10-17", "Statement": []})
    check.equal("a policy that locks everybody out", error_of(kms.put_key_policy, KeyId=arn, Policy=nobody)[0], "MalformedPolicyDocumentException")


def cryptography(check, kms, arn):
    sealed = kms.encrypt(KeyId=arn, Plaintext=b"secret", EncryptionContext=CONTEXT)
    blob = sealed["CiphertextBlob"]
    check.equal("Encrypt names the key", sealed["KeyId"], arn)
    opened = kms.decrypt(CiphertextBlob=blob, EncryptionContext=CONTEXT)
    check.equal("Decrypt gives it back", (opened["Plaintext"], opened["KeyId"]), (b"secret", arn))
    # K-4
    wrong = error_of(kms.decrypt, CiphertextBlob=blob, EncryptionContext={"tenant": "other"})
    check.equal("another context", wrong[0], "InvalidCiphertextException")
    flipped = blob[:-1] + bytes([blob[-1] ^ 1])
    check.equal("a flipped bit", error_of(kms.decrypt, CiphertextBlob=flipped, EncryptionContext=CONTEXT)[0], "InvalidCiphertextException")
    other = kms.create_key()["KeyMetadata"]["Arn"]
    # K-9
    check.equal("another key", error_of(kms.decrypt, CiphertextBlob=blob, EncryptionContext=CONTEXT, KeyId=other)[0], "IncorrectKeyException")
    check.equal("4097 bytes", error_of(kms.encrypt, KeyId=arn, Plaintext=b"x" * 4097)[0], "ValidationException")

    made = kms.generate_data_key(KeyId=arn, KeySpec="AES_256", EncryptionContext=CONTEXT)
    check.equal("GenerateDataKey gives 32 bytes", len(made["Plaintext"]), 32)
    check.equal("its blob has the size of AWS's", len(made["CiphertextBlob"]), 184)
    check.equal("its blob opens", kms.decrypt(CiphertextBlob=made["CiphertextBlob"], EncryptionContext=CONTEXT)["Plaintext"], made["Plaintext"])
    bare = kms.generate_data_key_without_plaintext(KeyId=arn, NumberOfBytes=16)
    check.that("GenerateDataKeyWithoutPlaintext gives none", "Plaintext" not in bare and bare["CiphertextBlob"])
    check.equal("its blob opens, too", len(kms.decrypt(CiphertextBlob=bare["CiphertextBlob"])["Plaintext"]), 16)
    check.equal("KeySpec and NumberOfBytes together", error_of(kms.generate_data_key, KeyId=arn, KeySpec="AES_256", NumberOfBytes=32)[0], "ValidationException")
    check.equal("GenerateRandom", len(kms.generate_random(NumberOfBytes=24)["Plaintext"]), 24)

    # K-1
    recipient = {"AttestationDocument": b"garbage", "KeyEncryptionAlgorithm": "RSAES_OAEP_SHA_256"}
    garbage = error_of(kms.decrypt, CiphertextBlob=blob, EncryptionContext=CONTEXT, Recipient=recipient)
    check.equal("a document that is none is an error, never a plaintext", garbage[0], "ValidationException")


def states(check, kms):
    arn = kms.create_key()["KeyMetadata"]["Arn"]
    # K-20
    kms.disable_key(KeyId=arn)
    check.equal("a disabled key", error_of(kms.encrypt, KeyId=arn, Plaintext=b"x"), ("DisabledException", f"{arn} is disabled."))
    kms.enable_key(KeyId=arn)
    kms.schedule_key_deletion(KeyId=arn, PendingWindowInDays=7)
    pending = error_of(kms.encrypt, KeyId=arn, Plaintext=b"x")
    check.equal("a key pending deletion", pending, ("KMSInvalidStateException", f"{arn} is pending deletion."))
    kms.cancel_key_deletion(KeyId=arn)
    check.equal("cancelling leaves it disabled", kms.describe_key(KeyId=arn)["KeyMetadata"]["KeyState"], "Disabled")


def callers(check, simulator, arn):
    session = boto3.Session(profile_name="enclave")
    stranger = session.client("kms")
    denied = error_of(stranger.encrypt, KeyId=arn, Plaintext=b"x")
    check.equal("a principal that the policy does not name", denied[0], "AccessDeniedException")
    check.that("AWS's words for it", "is not authorized to perform: kms:Encrypt on resource" in denied[1], denied[1])
    right = session.get_credentials()
    forged = boto3.client("kms", aws_access_key_id=right.access_key, aws_secret_access_key="wrong" * 8)
    check.equal("a wrong secret key", error_of(forged.list_keys)[0], "InvalidSignatureException")
    unknown = boto3.client("kms", aws_access_key_id="AKIAAAAAAAAAAAAAAAAA", aws_secret_access_key="wrong" * 8)
    check.equal("an unknown access key", error_of(unknown.list_keys)[0], "UnrecognizedClientException")
    released = stranger.decrypt
    owner = boto3.Session(profile_name="owner").client("kms")
    context = dict(CONTEXT, object="o", version="1")
    made = owner.generate_data_key(KeyId=simulator.info["key_arn"], KeySpec="AES_256", EncryptionContext=context)
    # K-2
    without = error_of(released, KeyId=simulator.info["key_arn"], CiphertextBlob=made["CiphertextBlob"], EncryptionContext=context)
    check.equal("the enclave's credentials without its document", without[0], "AccessDeniedException")
    return made["CiphertextBlob"], context


def recipient(check, simulator, blob, context):
    """A document with the enclave's measurements and a key of ours: OpenSSL opens what KMS seals to it."""
    key, public, document = (simulator.path(name) for name in ("rsa.pem", "rsa.pub", "document.cbor"))
    run = lambda *command: subprocess.run(command, check=True, capture_output=True)
    run("openssl", "genrsa", "-out", key, "2048")
    run("openssl", "rsa", "-in", key, "-pubout", "-out", public)
    run(simulator.binary, "--state", simulator.state, "nsm", "attest", "--public-key", public, "-o", document)
    with open(document, "rb") as file:
        attested = {"AttestationDocument": file.read(), "KeyEncryptionAlgorithm": "RSAES_OAEP_SHA_256"}
    answer = boto3.client("kms").generate_random(NumberOfBytes=32, Recipient=attested)
    check.that("GenerateRandom with a recipient has no plaintext", not answer.get("Plaintext"))
    sealed = simulator.path("sealed.ber")
    with open(sealed, "wb") as file:
        file.write(answer["CiphertextForRecipient"])
    check.equal("the envelope has the size of AWS's", len(answer["CiphertextForRecipient"]), 493)
    opened = run("openssl", "cms", "-decrypt", "-inform", "DER", "-in", sealed, "-inkey", key).stdout
    check.equal("openssl cms opens it", len(opened), 32)
    kms = boto3.Session(profile_name="enclave").client("kms")
    # The document lacks PCR16, which the running enclave has locked and the key policy demands.
    refused = error_of(kms.decrypt, KeyId=simulator.info["key_arn"], CiphertextBlob=blob, EncryptionContext=context, Recipient=attested)
    check.equal("a document without the policy's register releases nothing", refused[0], "AccessDeniedException")


def main():
    check = Checks()
    with Simulator(sys.argv[1]) as simulator:
        simulator.use_from_aws_clients("default")
        kms = boto3.client("kms", config=Config(retries={"max_attempts": 1}))
        arn, _ = keys(check, kms)
        policies(check, kms, arn)
        cryptography(check, kms, arn)
        states(check, kms)
        blob, context = callers(check, simulator, arn)
        recipient(check, simulator, blob, context)
    check.finish()


if __name__ == "__main__":
    main()
