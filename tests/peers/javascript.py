"""The JavaScript SDK and the official Encryption SDK for JavaScript, against the local KMS and with the enclave."""

import hashlib
import json
import os
import subprocess
import sys

import boto3

from common import Checks, Simulator

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "js")
CONTEXT = {"tenant": "acme", "object": "peers", "purpose": "payments", "version": "3"}
SIZES = [("empty", 0, 4096), ("frames-of-1", 300, 1), ("two-frames", 8192, 4096), ("many-frames", 3_000_000, 65536)]


def node(script, *arguments):
    """Runs a script with the AWS settings of this process; what it printed."""
    # The JavaScript SDK reads other names than boto3: the region, and the authority through node itself.
    environment = os.environ | {"NODE_EXTRA_CA_CERTS": os.environ["AWS_CA_BUNDLE"], "AWS_REGION": os.environ["AWS_DEFAULT_REGION"]}
    command = ["node", os.path.join(HERE, script), *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=300)


def sdk(check):
    """The script counts its own checks and prints them."""
    done = node("kms.mjs")
    print(done.stdout, end="")
    lines = done.stdout.splitlines()
    check.passed += sum(line.startswith("ok ") for line in lines)
    check.failed += sum(line.startswith("FAILED ") for line in lines)
    finished = bool(lines) and lines[-1].endswith(" failed")
    check.that("the JavaScript SDK came to the end of its scenario", finished, done.stderr[-2000:])


def cases(simulator):
    """Plaintexts in the simulator's folder, and how each is to be encrypted."""
    made = []
    for suite in ("0478", "0578"):
        for size, length, frame_length in SIZES:
            name = f"{suite}-{size}"
            with open(simulator.path(f"{name}.plain"), "wb") as file:
                file.write(os.urandom(length))
            made.append({"name": name, "suite": suite, "frameLength": frame_length, "encryptionContext": CONTEXT})
    return made


def digest_of(path):
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


def theirs(check, simulator, arn):
    made = cases(simulator)
    done = node("esdk.mjs", "encrypt", arn, simulator.folder, json.dumps(made))
    check.that("the Encryption SDK for JavaScript encrypts", done.returncode == 0, done.stderr[-2000:])
    for case in made if done.returncode == 0 else []:
        name = case["name"]
        status, out, err = simulator.adyton(
            "run", simulator.path("digest.toml"), simulator.path(f"{name}.enc"), "-o", "-", "--tenant", "acme", "--object", "peers"
        )
        opened = out.decode().strip() == digest_of(simulator.path(f"{name}.plain"))
        check.that(f"the enclave opens {name} from JavaScript", status == 0 and opened, f"exit {status}: {err}")


def ours(check, simulator, arn):
    """With a key that also opens without attestation, as the SDK cannot attest."""
    made = cases(simulator)
    for case in made:
        plain, sealed = (simulator.path(f"{case['name']}.{end}") for end in ("plain", "enc"))
        status, _, err = simulator.adyton(
            "encrypt", plain, "-o", sealed, "--force", "--key", arn, "--tenant", "acme", "--object", "peers",
            "--purpose", "payments", "--version", "3", "--suite", case["suite"], "--frame-length", str(case["frameLength"]),
        )
        check.that(f"adyton encrypts {case['name']}", status == 0, err)
    done = node("esdk.mjs", "decrypt", arn, simulator.folder, json.dumps(made))
    check.that("the Encryption SDK for JavaScript decrypts", done.returncode == 0, done.stderr[-2000:])
    for answer in json.loads(done.stdout) if done.returncode == 0 else []:
        name = answer["name"]
        context = {key: answer["context"].get(key) for key in CONTEXT}
        same = answer["sha256"] == digest_of(simulator.path(f"{name}.plain")) and context == CONTEXT
        check.that(f"JavaScript opens our {name}", same, answer)


def main():
    check = Checks()
    with Simulator(sys.argv[1]) as simulator:
        with open(simulator.path("digest.toml"), "w", encoding="utf-8") as file:
            file.write('version = 1\ninput = "raw"\nto = "parent"\n[[step]]\ndigest = "sha-256"\n')
        simulator.use_from_aws_clients("owner")
        theirs(check, simulator, simulator.info["key_arn"])
        simulator.use_from_aws_clients("default")
        os.environ["AWS_ENDPOINT_URL_STS"] = simulator.info["kms_endpoint"]
        principals = ["arn:aws:iam::111122223333:root", "arn:aws:iam::111122223333:user/data-owner"]
        everything = {"Effect": "Allow", "Principal": {"AWS": principals}, "Action": "kms:*", "Resource": "*"}
        policy = json.dumps({"Version": "2012-10-17", "Statement": [everything]})
        ours(check, simulator, boto3.client("kms").create_key(Policy=policy)["KeyMetadata"]["Arn"])
        sdk(check)
    check.finish()


if __name__ == "__main__":
    main()
