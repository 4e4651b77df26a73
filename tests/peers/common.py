"""What the peers share: the simulator as a process of its own, and a count of checks."""

import json
import os
import subprocess
import sys
import tempfile


class Checks:
    """Counts checks; each prints one line."""

    def __init__(self):
        self.passed = 0
        self.failed = 0

    def that(self, name, holds, detail=""):
        if holds:
            self.passed += 1
            print(f"ok      {name}")
        else:
            self.failed += 1
            print(f"FAILED  {name} {detail}")

    def equal(self, name, got, wanted):
        self.that(name, got == wanted, f"got {got!r}, wanted {wanted!r}")

    def finish(self):
        print(f"{self.passed} passed, {self.failed} failed")
        sys.exit(1 if self.failed else 0)


class Simulator:
    """`adyton-sim up` in a temporary state folder; `info` is what it says when it is ready."""

    def __init__(self, binary):
        self.binary = os.path.abspath(binary)

    def __enter__(self):
        self._folder = tempfile.TemporaryDirectory(prefix="adyton-peers-")
        self.folder = self._folder.name
        self.state = os.path.join(self.folder, "state")
        self._start()
        return self

    def _start(self):
        self._process = subprocess.Popen(
            [self.binary, "--state", self.state, "--json", "up"], stdout=subprocess.PIPE, text=True
        )
        line = self._process.stdout.readline()
        self.info = json.loads(line)

    def _stop(self):
        self._process.terminate()
        self._process.wait(timeout=60)

    def __exit__(self, *_):
        self._stop()
        self._folder.cleanup()

    def restart(self, edit):
        """Starts again in the same folder, under the policy that `edit` makes of the present one."""
        self._stop()
        with open(self.info["policy"], encoding="utf-8") as file:
            policy = edit(file.read())
        with open(self.info["policy"], "w", encoding="utf-8") as file:
            file.write(policy)
        self._start()

    def use_from_aws_clients(self, profile):
        """Points AWS clients made in this process from now on at the local KMS."""
        for name in list(os.environ):
            if name.startswith("AWS_"):
                del os.environ[name]
        os.environ.update(
            AWS_CA_BUNDLE=self.info["kms_ca"],
            AWS_SHARED_CREDENTIALS_FILE=self.info["credentials_file"],
            AWS_CONFIG_FILE=os.devnull,
            AWS_PROFILE=profile,
            AWS_DEFAULT_REGION=self.info["region"],
            AWS_ENDPOINT_URL_KMS=self.info["kms_endpoint"],
            AWS_EC2_METADATA_DISABLED="true",
        )

    def adyton(self, *arguments):
        """Runs the adyton command; its exit status, standard output and standard error."""
        command = [self.binary, "parent", *arguments, "--config", self.info["client_config"]]
        done = subprocess.run(command, capture_output=True, env={"PATH": os.environ["PATH"]}, check=False)
        return done.returncode, done.stdout, done.stderr.decode()

    def path(self, name):
        return os.path.join(self.folder, name)
