"""boto3 against the local KMS: every operation, and the errors that AWS answers with."""

import json
import sys

import boto3
from botocore import UNSIGNED
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
    over = "1 validation error detected: Value '1001' at 'limit' failed to satisfy constraint: Member must have value less than or equal to 1000"
    check.equal("a page that is too long", error_of(kms.list_keys, Limit=1001), ("ValidationException", over))
    check.equal("a key id that is none", error_of(kms.describe_key, KeyId="nonsense"), ("NotFoundException", "Invalid keyId 'nonsense'"))
    abroad = arn.replace("eu-west-1", "us-east-1")
    check.equal("a key of another region", error_of(kms.describe_key, KeyId=abroad), ("NotFoundException", "Invalid arn us-east-1"))
    usage = "You must specify a KeyUsage value for all KMS keys except for symmetric encryption keys."
    check.equal("a key for MACs without its usage", error_of(kms.create_key, KeySpec="HMAC_256"), ("ValidationException", usage))
    reserved = [{"TagKey": "aws:team", "TagValue": "peers"}]
    check.equal("a reserved tag", error_of(kms.create_key, Tags=reserved), ("TagException", "Tags beginning with aws: are reserved"))
    return arn, key_id


def aliases(check, kms, arn, key_id):
    account = arn.split(":key/")[0]

    kms.create_alias(AliasName="alias/peers", TargetKeyId=key_id)
    kms.create_alias(AliasName="alias/peers-too", TargetKeyId=arn)
    names = []
    for page in kms.get_paginator("list_aliases").paginate(PaginationConfig={"PageSize": 1}):
        check.that("a page of ListAliases has one alias", len(page["Aliases"]) <= 1)
        names += [alias["AliasName"] for alias in page["Aliases"]]
    check.that("pages of ListAliases have every alias once", {"alias/peers", "alias/peers-too"} <= set(names) and len(set(names)) == len(names), names)
    mine = [(alias["AliasName"], alias["TargetKeyId"]) for alias in kms.list_aliases(KeyId=key_id)["Aliases"]]
    check.equal("ListAliases of one key", sorted(mine), [("alias/peers", key_id), ("alias/peers-too", key_id)])
    check.equal("an alias that exists", error_of(kms.create_alias, AliasName="alias/peers", TargetKeyId=key_id)[0], "AlreadyExistsException")
    for alias in ("alias/peers", f"{account}:alias/peers"):
        check.equal(f"DescribeKey by {alias}", kms.describe_key(KeyId=alias)["KeyMetadata"]["Arn"], arn)
    absent = f"Alias {account}:alias/absent is not found."
    check.equal("an alias that is not there", error_of(kms.describe_key, KeyId="alias/absent"), ("NotFoundException", absent))
    check.equal("an alias for an alias", error_of(kms.create_alias, AliasName="alias/third", TargetKeyId="alias/peers")[0], "NotFoundException")
    check.equal("an alias of AWS", error_of(kms.create_alias, AliasName="alias/aws/peers", TargetKeyId=arn)[0], "NotAuthorizedException")
    check.equal("an alias without its prefix", error_of(kms.create_alias, AliasName="peers", TargetKeyId=arn)[0], "ValidationException")
    check.equal("an alias with a blank", error_of(kms.create_alias, AliasName="alias/a b", TargetKeyId=arn)[0], "ValidationException")


def policies(check, kms, arn):
    policy = kms.get_key_policy(KeyId=arn, PolicyName="default")["Policy"]
    check.that("GetKeyPolicy gives JSON", "Statement" in json.loads(policy))
    kms.put_key_policy(KeyId=arn, PolicyName="default", Policy=policy)
    check.equal("PutKeyPolicy keeps it", kms.get_key_policy(KeyId=arn)["Policy"], policy)
    bad = error_of(kms.put_key_policy, KeyId=arn, PolicyName="default", Policy="not json")
    check.equal("a policy that is none", bad[0], "MalformedPolicyDocumentException")
    nobody = json.dumps({"Version": "2012-10-17", "Statement": []})
    maybe = json.loads(policy)
    maybe["Statement"][0]["Effect"] = "Maybe"
    check.equal("a policy with an effect that is none", error_of(kms.put_key_policy, KeyId=arn, Policy=json.dumps(maybe))[0], "MalformedPolicyDocumentException")
    unknown = json.loads(policy)
    unknown["Statement"][0]["Principal"] = {"AWS": "nobody"}
    check.equal("a policy for a principal that is none", error_of(kms.put_key_policy, KeyId=arn, Policy=json.dumps(unknown))[0], "MalformedPolicyDocumentException")
    long = policy + " " * 32768
    check.equal("a policy over 32 KiB", error_of(kms.put_key_policy, KeyId=arn, Policy=long)[0], "LimitExceededException")
    check.equal("a policy of another name", error_of(kms.get_key_policy, KeyId=arn, PolicyName="other"), ("NotFoundException", "No such policy exists"))
    check.equal("PutKeyPolicy of another name", error_of(kms.put_key_policy, KeyId=arn, PolicyName="other", Policy=policy)[0], "NotFoundException")
    check.equal("the policy is still the same", kms.get_key_policy(KeyId=arn)["Policy"], policy)
    check.equal("a policy that locks everybody out", error_of(kms.put_key_policy, KeyId=arn, Policy=nobody)[0], "MalformedPolicyDocumentException")


def cryptography(check, kms, arn):
    sealed = kms.encrypt(KeyId=arn, Plaintext=b"secret", EncryptionContext=CONTEXT)
    blob = sealed["CiphertextBlob"]
    check.equal("Encrypt names the key", sealed["KeyId"], arn)
    opened = kms.decrypt(CiphertextBlob=blob, EncryptionContext=CONTEXT)
    check.equal("Decrypt gives it back", (opened["Plaintext"], opened["KeyId"]), (b"secret", arn))
    # K-4
    wrong = error_of(kms.decrypt, CiphertextBlob=blob, EncryptionContext={"tenant": "other"})
    check.equal("another context, and AWS says no more than that", wrong, ("InvalidCiphertextException", ""))
    cased = {"Tenant": "acme", "purpose": "payments"}
    check.equal("a context in other case", error_of(kms.decrypt, CiphertextBlob=blob, EncryptionContext=cased)[0], "InvalidCiphertextException")
    check.equal("no context", error_of(kms.decrypt, CiphertextBlob=blob)[0], "InvalidCiphertextException")
    check.equal("a blob that is none", error_of(kms.decrypt, CiphertextBlob=b"garbage")[0], "InvalidCiphertextException")
    check.equal("a blob of 6145 bytes", error_of(kms.decrypt, CiphertextBlob=b"x" * 6145)[0], "ValidationException")
    flipped = blob[:-1] + bytes([blob[-1] ^ 1])
    check.equal("a flipped bit", error_of(kms.decrypt, CiphertextBlob=flipped, EncryptionContext=CONTEXT)[0], "InvalidCiphertextException")
    other = kms.create_key()["KeyMetadata"]["Arn"]
    # K-9
    incorrect = error_of(kms.decrypt, CiphertextBlob=blob, EncryptionContext=CONTEXT, KeyId=other)
    wanted = "The key ID in the request does not identify a CMK that can perform this operation."
    check.equal("another key", incorrect, ("IncorrectKeyException", wanted))
    oaep = error_of(kms.encrypt, KeyId=arn, Plaintext=b"x", EncryptionAlgorithm="RSAES_OAEP_SHA_256")
    wanted = "Algorithm RSAES_OAEP_SHA_256 is incompatible with key spec SYMMETRIC_DEFAULT."
    check.equal("an algorithm of another kind of key", oaep, ("InvalidKeyUsageException", wanted))
    check.equal("nothing to encrypt", error_of(kms.encrypt, KeyId=arn, Plaintext=b"")[0], "ValidationException")
    check.equal("4097 bytes", error_of(kms.encrypt, KeyId=arn, Plaintext=b"x" * 4097)[0], "ValidationException")

    made = kms.generate_data_key(KeyId=arn, KeySpec="AES_256", EncryptionContext=CONTEXT)
    check.equal("GenerateDataKey gives 32 bytes", len(made["Plaintext"]), 32)
    check.equal("its blob has the size of AWS's", len(made["CiphertextBlob"]), 184)
    check.equal("its blob opens", kms.decrypt(CiphertextBlob=made["CiphertextBlob"], EncryptionContext=CONTEXT)["Plaintext"], made["Plaintext"])
    bare = kms.generate_data_key_without_plaintext(KeyId=arn, NumberOfBytes=16)
    check.that("GenerateDataKeyWithoutPlaintext gives none", "Plaintext" not in bare and bare["CiphertextBlob"])
    check.equal("its blob opens, too", len(kms.decrypt(CiphertextBlob=bare["CiphertextBlob"])["Plaintext"]), 16)
    check.equal("KeySpec and NumberOfBytes together", error_of(kms.generate_data_key, KeyId=arn, KeySpec="AES_256", NumberOfBytes=32)[0], "ValidationException")
    check.equal("neither of them", error_of(kms.generate_data_key, KeyId=arn)[0], "ValidationException")
    check.equal("a key of 1025 bytes", error_of(kms.generate_data_key, KeyId=arn, NumberOfBytes=1025)[0], "ValidationException")
    check.equal("a KeySpec that is none", error_of(kms.generate_data_key, KeyId=arn, KeySpec="AES_512")[0], "ValidationException")
    rehearsed = error_of(kms.generate_data_key, KeyId=arn, KeySpec="AES_256", DryRun=True)
    check.equal("a dry run", rehearsed, ("DryRunOperationException", "The request would have succeeded, but the DryRun option is set."))
    check.equal("GenerateRandom", len(kms.generate_random(NumberOfBytes=24)["Plaintext"]), 24)

    check.equal("GenerateRandom of nothing", error_of(kms.generate_random), ("ValidationException", "NumberOfBytes is required."))
    check.equal("GenerateRandom of 1025", error_of(kms.generate_random, NumberOfBytes=1025)[0], "ValidationException")


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
    tokened = boto3.client("kms", aws_access_key_id="ASIA", aws_secret_access_key="x", aws_session_token="x")
    check.equal("a session token that is none", error_of(tokened.list_keys)[0], "UnrecognizedClientException")
    unsigned = boto3.client("kms", config=Config(signature_version=UNSIGNED))
    check.equal("no signature", error_of(unsigned.list_keys)[0], "MissingAuthenticationTokenException")
    abroad = boto3.client("kms", region_name="us-east-1")
    check.equal("another region has keys of its own", abroad.list_keys()["Keys"], [])
    owner = boto3.Session(profile_name="owner").client("kms")
    context = dict(CONTEXT, object="o", version="1")
    made = owner.generate_data_key(KeyId=simulator.info["key_arn"], KeySpec="AES_256", EncryptionContext=context)
    # K-2
    without = error_of(stranger.decrypt, KeyId=simulator.info["key_arn"], CiphertextBlob=made["CiphertextBlob"], EncryptionContext=context)
    check.equal("the enclave's credentials without its document", without[0], "AccessDeniedException")
    check.that("and an explicit deny says so", "with an explicit deny in a resource-based policy" in without[1], without[1])


def main():
    check = Checks()
    with Simulator(sys.argv[1]) as simulator:
        simulator.use_from_aws_clients("default")
        kms = boto3.client("kms", config=Config(retries={"max_attempts": 1}))
        arn, key_id = keys(check, kms)
        aliases(check, kms, arn, key_id)
        policies(check, kms, arn)
        cryptography(check, kms, arn)
        states(check, kms)
        callers(check, simulator, arn)
    check.finish()


if __name__ == "__main__":
    main()
