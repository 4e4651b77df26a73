"""Key release to attested recipients, with AWS's client and OpenSSL: the enclave has no part in it.

The documents have the enclave's measurements and an RSA key that this script holds.
"""

import json
import os
import subprocess
import sys

import boto3
from botocore.exceptions import ClientError

from common import Checks, Simulator

CONTEXT = {"tenant": "acme", "object": "o", "purpose": "payments", "version": "1"}


def run(*command):
    return subprocess.run(command, check=True, capture_output=True).stdout


class Recipient:
    """An RSA key of ours, and documents of the simulated NSM that name it."""

    def __init__(self, simulator):
        self._simulator = simulator
        self._key = simulator.path("rsa.pem")
        self._public = simulator.path("rsa.pub")
        run("openssl", "genrsa", "-out", self._key, "2048")
        run("openssl", "rsa", "-in", self._key, "-pubout", "-out", self._public)

    def attested(self, *flags):
        """What goes into a request's Recipient."""
        path = self._simulator.path("document.cbor")
        if os.path.exists(path):
            os.remove(path)
        state = self._simulator.state
        run(self._simulator.binary, "--state", state, "nsm", "attest", "--public-key", self._public, "-o", path, *flags)
        with open(path, "rb") as file:
            return {"AttestationDocument": file.read(), "KeyEncryptionAlgorithm": "RSAES_OAEP_SHA_256"}

    def open(self, envelope):
        """OpenSSL opens what KMS sealed."""
        path = self._simulator.path("sealed.ber")
        with open(path, "wb") as file:
            file.write(envelope)
        return run("openssl", "cms", "-decrypt", "-inform", "DER", "-in", path, "-inkey", self._key)


def refusal(call, **arguments):
    """The error's name; anything else that came back, if there was none."""
    try:
        return {name: "…" for name in call(**arguments)}
    except ClientError as error:
        return error.response["Error"]["Code"]


def released(check, admin, kms, arn, recipient):
    attested = recipient.attested()
    answer = admin.generate_random(NumberOfBytes=12, Recipient=attested)
    check.that("GenerateRandom for a recipient has no plaintext", not answer.get("Plaintext"))
    check.equal("its envelope has the size of AWS's for 12 bytes", len(answer["CiphertextForRecipient"]), 461)
    check.equal("openssl cms opens it", len(recipient.open(answer["CiphertextForRecipient"])), 12)

    made = kms.generate_data_key(KeyId=arn, KeySpec="AES_256", EncryptionContext=CONTEXT, Recipient=attested)
    # K-1
    check.that("GenerateDataKey for a recipient has no plaintext", not made.get("Plaintext"))
    check.equal("its envelope has the size of AWS's for 32 bytes", len(made["CiphertextForRecipient"]), 493)
    key = recipient.open(made["CiphertextForRecipient"])
    opened = kms.decrypt(KeyId=arn, CiphertextBlob=made["CiphertextBlob"], EncryptionContext=CONTEXT, Recipient=attested)
    check.that("Decrypt for a recipient has no plaintext", not opened.get("Plaintext"))
    check.that("and no KeyMaterialId", "KeyMaterialId" not in opened)
    check.equal("and the key's ARN", opened["KeyId"], arn)
    check.equal("both envelopes hold the same key", recipient.open(opened["CiphertextForRecipient"]), key)
    return made["CiphertextBlob"]


def refused(check, admin, kms, arn, recipient, blob):
    def decrypt(**more):
        return refusal(kms.decrypt, KeyId=arn, CiphertextBlob=blob, EncryptionContext=CONTEXT, **more)

    # K-2
    check.equal("no document", decrypt(), "AccessDeniedException")
    # V-6
    check.equal("a document of debug mode", decrypt(Recipient=recipient.attested("--debug")), "AccessDeniedException")
    good = recipient.attested()
    # A bad document is an error, and never a reason to answer with a plaintext.
    garbage = dict(good, AttestationDocument=b"garbage")
    check.equal("garbage for a document", decrypt(Recipient=garbage), "ValidationException")
    document = good["AttestationDocument"]
    forged = dict(good, AttestationDocument=document[:-1] + bytes([document[-1] ^ 1]))
    check.equal("a document with a wrong signature", decrypt(Recipient=forged), "ValidationException")
    cut = dict(good, AttestationDocument=document[:-1])
    check.equal("a document that ends early", decrypt(Recipient=cut), "ValidationException")
    unsaid = {"AttestationDocument": document}
    check.equal("no algorithm", decrypt(Recipient=unsaid), "ValidationException")
    for name, call, more in [
        ("GenerateDataKey", kms.generate_data_key, {"KeyId": arn, "KeySpec": "AES_256", "EncryptionContext": CONTEXT}),
        ("GenerateRandom", admin.generate_random, {"NumberOfBytes": 32}),
    ]:
        check.equal(f"{name} with garbage for a document", refusal(call, Recipient=garbage, **more), "ValidationException")


def policy(enclave, pcrs):
    """Everything for the account, but opening for the enclave alone and only with these registers."""
    measured = {f"kms:RecipientAttestation:PCR{index}": pcrs[index] for index in "012"}
    account = {"AWS": "arn:aws:iam::111122223333:root"}
    statements = [
        {"Effect": "Allow", "Principal": account, "Action": ["kms:DescribeKey", "kms:PutKeyPolicy"], "Resource": "*"},
        {
            "Effect": "Allow",
            "Principal": {"AWS": enclave},
            "Action": ["kms:Decrypt", "kms:GenerateDataKey"],
            "Resource": "*",
            "Condition": {"StringEqualsIgnoreCase": measured},
        },
    ]
    return json.dumps({"Version": "2012-10-17", "Statement": statements})


def main():
    check = Checks()
    with Simulator(sys.argv[1]) as simulator, Simulator(sys.argv[1]) as foreign:
        simulator.use_from_aws_clients("default")
        enclave = "arn:aws:iam::111122223333:user/adyton-enclave"
        admin = boto3.client("kms")
        arn = admin.create_key(Policy=policy(enclave, simulator.info["pcrs"]))["KeyMetadata"]["Arn"]
        kms = boto3.Session(profile_name="enclave").client("kms")
        recipient = Recipient(simulator)
        blob = released(check, admin, kms, arn, recipient)
        refused(check, admin, kms, arn, recipient, blob)
        # V-3
        other = Recipient(foreign).attested()
        code = refusal(kms.decrypt, KeyId=arn, CiphertextBlob=blob, EncryptionContext=CONTEXT, Recipient=other)
        check.equal("a document of another NSM", code, "ValidationException")
        # The document lacks PCR16, which the running enclave has locked and its key's policy demands.
        owner = boto3.Session(profile_name="owner").client("kms")
        its_key = simulator.info["key_arn"]
        wrapped = owner.generate_data_key(KeyId=its_key, KeySpec="AES_256", EncryptionContext=CONTEXT)["CiphertextBlob"]
        code = refusal(kms.decrypt, KeyId=its_key, CiphertextBlob=wrapped, EncryptionContext=CONTEXT, Recipient=recipient.attested())
        check.equal("a document without the policy's register", code, "AccessDeniedException")
    check.finish()


if __name__ == "__main__":
    main()
