"""Documents of the simulated NSM before `epsilon-attestation-verifier`, which takes a root.

It reads COSE and X.509 with `cbor2` and `cryptography` and has nothing in common with ours.
"""

import base64
import logging
import sys

from epsilon_verifier import verify_attestation

from common import Checks, Simulator


def verdict(document, root, pcrs):
    """Whether the peer accepts a document for these registers 0 to 2, and why not."""
    result = verify_attestation(
        base64.b64encode(document).decode(),
        expected_pcr0=pcrs["0"],
        expected_pcr1=pcrs["1"],
        expected_pcr2=pcrs["2"],
        aws_root_cert_path=root,
    )
    return result.valid, result.error or "", result.attestation


def flipped(document, position):
    return document[:position] + bytes([document[position] ^ 1]) + document[position + 1 :]


def from_a_running_enclave(check, simulator):
    path = simulator.path("enclave.cbor")
    status, _, error = simulator.adyton("attest", "-o", path)
    check.that("adyton attest keeps the enclave's document", status == 0, error)
    with open(path, "rb") as file:
        return file.read()


def judged(check, document, info):
    root, pcrs = info["root"], info["pcrs"]
    accepted, error, parsed = verdict(document, root, pcrs)
    check.that("the enclave's document is accepted", accepted, error)
    check.equal("its register 16 is what the simulator says", parsed.pcrs.get(16), pcrs["16"])
    check.that("it holds the challenger's nonce", len(parsed.nonce or b"") >= 16)  # T-2
    check.that("its user data fits", 0 < len(parsed.user_data or b"") <= 512)

    for index in "012":
        other = dict(pcrs, **{index: "00" * 48})
        accepted, error, _ = verdict(document, root, other)
        check.that(f"another PCR{index} is refused", not accepted and f"PCR{index} mismatch" in error, error)
    # The signature is the last field, so this flips one bit of it.
    accepted, error, _ = verdict(flipped(document, len(document) - 1), root, pcrs)
    check.that("a flipped bit of the signature is refused", not accepted and "signature" in error, error)
    register = document.index(bytes.fromhex(pcrs["0"]))
    accepted, error, _ = verdict(flipped(document, register), root, pcrs)
    check.that("a flipped bit of PCR0 is refused", not accepted and "signature" in error, error)


def main():
    logging.disable(logging.CRITICAL)
    check = Checks()
    with Simulator(sys.argv[1]) as first, Simulator(sys.argv[1]) as second:
        document = from_a_running_enclave(check, first)
        judged(check, document, first.info)
        # V-3
        accepted, error, _ = verdict(document, second.info["root"], first.info["pcrs"])
        check.that("another simulator's root is refused", not accepted and "chain" in error, error)
    check.finish()


if __name__ == "__main__":
    main()
