"""The AWS CLI against the local KMS, the way people use it in shells and scripts."""

import base64
import json
import os
import subprocess
import sys

from common import Checks, Simulator

AWS = os.path.join(os.path.dirname(sys.executable), "aws")


class Cli:
    """Runs `aws SERVICE ...`; JSON on success, the last line of standard error otherwise."""

    def __init__(self, check):
        self.check = check

    def run(self, *arguments):
        done = subprocess.run([AWS, *arguments], capture_output=True, text=True, check=False, timeout=120)
        return done.returncode, done.stdout, done.stderr.strip()

    def __call__(self, *arguments):
        status, out, err = self.run("kms", *arguments)
        self.check.that(f"aws kms {arguments[0]}", status == 0, err)
        return json.loads(out) if out.strip() else {}

    def refused(self, name, wanted, *arguments):
        status, _, err = self.run("kms", *arguments)
        self.check.that(name, status != 0 and wanted in err, f"exit {status}: {err}")


def everyday(check, aws, simulator):
    made = aws("create-key", "--description", "from the shell", "--tags", "TagKey=team,TagValue=peers")["KeyMetadata"]
    key_id, arn = made["KeyId"], made["Arn"]
    aws("create-alias", "--alias-name", "alias/shell", "--target-key-id", key_id)
    check.equal("an alias leads to its key", aws("describe-key", "--key-id", "alias/shell")["KeyMetadata"]["Arn"], arn)

    plain = simulator.path("plain.txt")
    with open(plain, "wb") as file:
        file.write(b"what nobody else may read")
    sealed = aws("encrypt", "--key-id", "alias/shell", "--plaintext", f"fileb://{plain}", "--encryption-context", "tenant=acme")
    blob = simulator.path("blob")
    with open(blob, "wb") as file:
        file.write(base64.b64decode(sealed["CiphertextBlob"]))
    opened = aws("decrypt", "--ciphertext-blob", f"fileb://{blob}", "--encryption-context", "tenant=acme")
    check.equal("decrypt gives the file back", base64.b64decode(opened["Plaintext"]), b"what nobody else may read")
    aws.refused("another context", "(InvalidCiphertextException)", "decrypt", "--ciphertext-blob", f"fileb://{blob}", "--encryption-context", "tenant=x")
    moved = aws("re-encrypt", "--ciphertext-blob", f"fileb://{blob}", "--source-encryption-context", "tenant=acme", "--destination-key-id", key_id)
    check.equal("re-encrypt answers with the key", moved["KeyId"], arn)

    key = aws("generate-data-key", "--key-id", key_id, "--key-spec", "AES_256")
    check.equal("a data key has 32 bytes", len(base64.b64decode(key["Plaintext"])), 32)
    check.equal("random bytes", len(base64.b64decode(aws("generate-random", "--number-of-bytes", "48")["Plaintext"])), 48)

    policy = json.loads(aws("get-key-policy", "--key-id", key_id, "--policy-name", "default")["Policy"])
    policy["Statement"].append({"Sid": "Owner", "Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::111122223333:user/data-owner"}, "Action": "kms:Decrypt", "Resource": "*"})
    aws("put-key-policy", "--key-id", key_id, "--policy-name", "default", "--policy", json.dumps(policy))
    return key_id, arn


def lists(check, aws):
    for _ in range(3):
        aws("create-key")
    keys = aws("list-keys", "--page-size", "2")["Keys"]
    check.that("list-keys follows the pages", len(keys) >= 4 and len({key["KeyId"] for key in keys}) == len(keys), keys)
    first = aws("list-keys", "--max-items", "1")
    check.that("a token for the next page", len(first["Keys"]) == 1 and first.get("NextToken"), first)


def lifecycle(aws, key_id, arn):
    aws("enable-key-rotation", "--key-id", key_id, "--rotation-period-in-days", "180")
    aws("rotate-key-on-demand", "--key-id", key_id)
    aws("list-key-rotations", "--key-id", key_id)
    aws("tag-resource", "--key-id", key_id, "--tags", "TagKey=stage,TagValue=test")
    aws("list-resource-tags", "--key-id", key_id)
    aws("disable-key", "--key-id", key_id)
    aws.refused("a disabled key", f"(DisabledException) when calling the GenerateDataKey operation: {arn} is disabled.", "generate-data-key", "--key-id", key_id, "--key-spec", "AES_256")
    aws("enable-key", "--key-id", key_id)
    grant = aws("create-grant", "--key-id", key_id, "--grantee-principal", "arn:aws:iam::111122223333:user/data-owner", "--operations", "Decrypt")
    aws("list-grants", "--key-id", key_id)
    aws("revoke-grant", "--key-id", key_id, "--grant-id", grant["GrantId"])
    aws("schedule-key-deletion", "--key-id", key_id, "--pending-window-in-days", "7")
    aws("cancel-key-deletion", "--key-id", key_id)
    aws.refused("a key that is not there", "(NotFoundException) when calling the DescribeKey operation: Key 'arn:aws:kms:", "describe-key", "--key-id", "00000000-0000-4000-8000-000000000000")


def asymmetric(check, aws, simulator):
    key = aws("create-key", "--key-spec", "ECC_NIST_P384", "--key-usage", "SIGN_VERIFY")["KeyMetadata"]["KeyId"]
    message = simulator.path("plain.txt")
    signature = aws("sign", "--key-id", key, "--message", f"fileb://{message}", "--signing-algorithm", "ECDSA_SHA_384")["Signature"]
    public = aws("get-public-key", "--key-id", key)["PublicKey"]
    paths = {}
    for name, content in (("signature", signature), ("public", public)):
        paths[name] = simulator.path(name)
        with open(paths[name], "wb") as file:
            file.write(base64.b64decode(content))
    verify = ["openssl", "dgst", "-sha384", "-keyform", "DER", "-verify", paths["public"], "-signature", paths["signature"], message]
    check.equal("openssl verifies the signature", subprocess.run(verify, capture_output=True, check=False).returncode, 0)
    mac = aws("create-key", "--key-spec", "HMAC_256", "--key-usage", "GENERATE_VERIFY_MAC")["KeyMetadata"]["KeyId"]
    aws("generate-mac", "--key-id", mac, "--message", f"fileb://{message}", "--mac-algorithm", "HMAC_SHA_256")


def identity(check, aws):
    status, out, err = aws.run("sts", "get-caller-identity")
    check.that("aws sts get-caller-identity", status == 0 and json.loads(out)["Arn"].endswith(":user/administrator"), err or out)


def main():
    check = Checks()
    with Simulator(sys.argv[1]) as simulator:
        simulator.use_from_aws_clients("default")
        os.environ |= {"AWS_ENDPOINT_URL_STS": simulator.info["kms_endpoint"], "AWS_PAGER": "", "AWS_MAX_ATTEMPTS": "1"}
        aws = Cli(check)
        key_id, arn = everyday(check, aws, simulator)
        lists(check, aws)
        lifecycle(aws, key_id, arn)
        asymmetric(check, aws, simulator)
        identity(check, aws)
    check.finish()


if __name__ == "__main__":
    main()
