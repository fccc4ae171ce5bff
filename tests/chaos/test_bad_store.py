"""Every kind of file in the store, damaged in every way: flipped at several places, cut to several lengths, emptied, made
longer, swapped with another snapshot's, replaced by an older one, removed, made a folder, a link, a pipe. The invocation that
comes next is answered rightly (the function knows every byte of its memory), from what is left or after the version was
initialised anew; verification finds the damage before, and nothing afterwards; the log tells of it."""

import json
import os
import random
import shutil
import subprocess
import threading

import pytest
from botocore.exceptions import ClientError

import ballast
import harness

ARGUMENTS = ["--blanks", "1", "--drain", "1"]
REFUSALS = {"SnapStartNotReadyException", "SnapStartRegenerationFailureException", "SnapStartException",
            "ResourceConflictException", "ServiceException"}
DAMAGES = ["flip first", "flip head", "flip middle", "flip last", "cut to nothing", "cut to a byte", "cut in half",
           "cut by a byte", "longer", "swapped", "older", "removed", "a folder", "a link", "a pipe"]
CHUNK_DAMAGES = [*DAMAGES, "unreadable"]  # to a pager, who is nobody


def flip(path, at):
    with open(path, "r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 0x10]))


def damage(path, how, donor, older):
    """`donor`: another snapshot's file of the kind; `older`: what the file of the kind was before."""
    size = path.stat().st_size
    mode = path.stat().st_mode & 0o777
    if how.startswith("flip"):
        flip(path, {"first": 0, "head": 17, "middle": size // 2, "last": size - 1}[how.split()[1]])
    elif how.startswith("cut"):
        os.truncate(path, {"to nothing": 0, "to a byte": 1, "in half": size // 2, "by a byte": size - 1}[how[4:]])
    elif how == "longer":
        with open(path, "ab") as file:
            file.write(b"more")
    elif how == "unreadable":
        path.chmod(0)
    elif how in ("swapped", "older"):
        path.write_bytes(donor.read_bytes() if how == "swapped" else older)
    else:
        path.unlink()
        if how == "a folder":
            path.mkdir()
            (path / "in").mkdir()
            (path / "in" / "it").write_bytes(b"?")
        elif how == "a link":
            path.symlink_to(donor)
        elif how == "a pipe":
            os.mkfifo(path, mode)


class Bench:
    """A daemon with a donor and a victim."""

    def __init__(self, number):
        self.chooser = random.Random(number)
        self.daemon = harness.make_daemon(arguments=ARGUMENTS)
        try:
            self.prepare()
        except BaseException:
            self.end()
            raise

    def prepare(self):
        self.daemon.start()
        self.store = self.daemon.data / "store"
        self.donor, self.donor_seed = ballast.create(self.daemon, "donor")
        self.donor_version = self.donor.publish()
        self.donor_folder = self.snapshots()[0]
        self.donor_chunks = self.chunks()
        self.victim, self.seed = ballast.create(self.daemon, "victim")
        self.version = self.victim.publish()
        self.client = self.daemon.client()
        self.older = {}
        self.attempt(self.donor, self.donor_version, self.donor_seed)
        harness.wait_until((self.donor_folder / "hot").exists, "the donor's hot set")

    def end(self):
        harness.end_daemon(self.daemon)

    def snapshots(self):
        return sorted(p for p in (self.store / "snapshots").iterdir() if "." not in p.name)

    def chunks(self):
        return set(harness.files_below(self.store / "chunks"))

    def folder(self):
        """The victim's snapshot, once the one before is gone."""
        return harness.wait_until(lambda: len(self.snapshots()) == 2 and
                                  next(p for p in self.snapshots() if p != self.donor_folder), "one snapshot each")

    def target(self, kind):
        """(the file to damage, one of another snapshot)"""
        if kind == "chunk":
            self.daemon.thaw("store", "gc")
            own = sorted(self.chunks() - self.donor_chunks)
            return self.chooser.choice(own), self.chooser.choice(sorted(self.donor_chunks))
        if kind == "domain":
            if not (self.store / "domains" / "default").exists():  # the next publish makes it
                ballast.change(self.donor)
                self.client.delete_function(FunctionName="donor", Qualifier=self.donor.publish())
                self.folder()
            return self.store / "domains" / "default", self.donor_folder / "key"
        return self.folder() / kind, self.donor_folder / kind

    def verify(self, *options):
        done = self.daemon.thaw("store", "verify", "--json", *options, check=False)
        return done.returncode, json.loads(done.stdout)["damaged"]

    def attempt(self, function, version, seed):
        try:
            return ballast.answer_of(self.client, function.name, version, seed)
        except ClientError as error:
            assert error.response["Error"]["Code"] in REFUSALS and error.response["Error"]["Message"], error
            return None

    def answer(self, told):
        return harness.wait_until(lambda: self.attempt(self.victim, self.version, self.seed), f"{told}: an answer")

    def run(self, kind, how):
        told = f"{kind}, {how}"
        born = self.answer(told)
        if kind in ("hot", "chunk"):
            harness.wait_until((self.folder() / "hot").exists, f"{told}: the hot set to be recorded")
        path, donor = self.target(kind)
        content = path.read_bytes()
        older = self.older.get(kind, donor.read_bytes())
        self.victim.evict(self.version, templates=True)
        logged = len(self.daemon.log())
        if kind == "chunk":  # else the hot set has all that this function needs
            (self.folder() / "hot").unlink(missing_ok=True)
        damage(path, how, donor, older)
        self.older[kind] = content
        status, damaged = self.verify()
        # A salt or hot set that is missing is no damage, as another is made; an older one of the same is as good.
        missing = kind in ("domain", "hot") and how in ("removed", "older") or how == "unreadable"  # which it is not to us
        assert missing or (status == 1 and damaged), f"{told}: verification found nothing"
        assert missing or any(d["damaged"]["file"].endswith(path.name) or kind in d["damaged"]["file"] for d in damaged), (told, damaged)
        again = self.answer(told)
        if kind in ("key", "manifest", "chunk"):
            assert again != born, f"{told}: answered from a snapshot that is damaged"
            assert "anew" in self.daemon.log()[logged:], f"{told}: nothing in the log: {self.daemon.log()[logged:]}"
        elif kind == "domain" and DAMAGES.index(how) % 2 and how != "flip head":
            # A publish mends it; but not a salt that seems to be of another master key.
            assert again == born, f"{told}: the snapshot was of use still"
            ballast.change(self.donor)
            self.client.delete_function(FunctionName="donor", Qualifier=self.donor.publish())
        else:
            assert again == born, f"{told}: the snapshot was of use still"
            status, damaged = self.verify("--repair")
            assert status == 0 and all(d["damaged"]["repaired"] for d in damaged), (told, damaged)
        self.folder()
        status, damaged = self.verify()
        assert status == 0, f"{told}: {damaged}"
        if again != born:  # a start without a hot set would record another one, which the next case may not expect
            harness.wait_until((self.folder() / "hot").exists, f"{told}: the hot set to be recorded again")
        self.victim.evict(self.version, templates=True)
        assert self.answer(told) == again, f"{told}: the new snapshot is used from then on"


def cases():
    for kind in ["key", "manifest", "chunk", "hot", "domain"]:
        for how in CHUNK_DAMAGES if kind == "chunk" else DAMAGES:
            if (kind, how) != ("chunk", "older"):  # there is none: a chunk is called after what is in it
                yield kind, how


def test_every_file_damaged_in_every_way():
    todo = list(cases())
    failures = []
    lock = threading.Lock()

    def work(number):
        bench = None
        try:
            bench = Bench(number)
            while True:
                with lock:
                    if not todo:
                        break
                    kind, how = todo.pop(0)
                bench.run(kind, how)
            # The donor was a witness all along, and new versions can be published.
            assert bench.attempt(bench.donor, bench.donor_version, bench.donor_seed)
            seed = ballast.change(bench.victim)
            ballast.answer_of(bench.client, "victim", bench.victim.publish(), seed)
            ballast.check_store(bench.daemon)
        except BaseException as error:
            failures.append(f"{error}\n{bench.daemon.log()[-3000:] if bench else ''}")
        finally:
            if bench:
                try:
                    bench.end()
                except BaseException as error:
                    failures.append(str(error))

    workers = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not failures, "\n\n".join(failures)


def test_repair_has_versions_initialised_anew(new_daemon):
    """Before anybody asks for them."""
    daemon = new_daemon(arguments=ARGUMENTS).start()
    function, seed = ballast.create(daemon, "pets")
    version = function.publish()
    born = ballast.answer_of(function.client, "pets", version, seed)
    function.evict(version, templates=True)
    (manifest,) = daemon.data.glob("store/snapshots/*/manifest")
    flip(manifest, 1000)
    done = daemon.thaw("store", "verify", check=False)
    assert done.returncode == 1 and "pets:1" in done.stderr and "manifest" in done.stderr and "1 damaged" in done.stdout
    done = daemon.thaw("store", "gc", check=False)
    assert done.returncode == 1 and "nothing was collected" in done.stderr
    done = daemon.thaw("store", "verify", "--repair")
    assert "initialised anew" in done.stdout
    harness.wait_until(lambda: daemon.thaw("store", "verify", check=False).returncode == 0, "the new snapshot")
    assert ballast.answer_of(function.client, "pets", version, seed) != born
    assert "RESTORE_START" in daemon.thaw("logs", "pets").stdout
    ballast.check_store(daemon)


@pytest.mark.parametrize("how", ["cut to nothing", "cut by a byte", "longer", "a folder", "a link", "a pipe"])
def test_a_master_key_that_is_none(new_daemon, how):
    """Refused at the start, in words, and nothing is lost: with the right one all is there again."""
    daemon = new_daemon(arguments=ARGUMENTS).start()
    function, seed = ballast.create(daemon, "pets")
    version = function.publish()
    born = ballast.answer_of(function.client, "pets", version, seed)
    daemon.stop()
    key = daemon.data / "thaw.key"
    content = key.read_bytes()
    copy = daemon.data / "copy"
    copy.write_bytes(content)
    damage(key, how, copy, content)
    done = subprocess.run([harness.THAWD, "--listen", f"127.0.0.1:{daemon.port}", "--data", daemon.data],
                          capture_output=True, text=True, timeout=harness.PATIENCE_S)
    assert done.returncode == 1 and "thaw.key" in done.stderr, done.stderr
    if key.is_dir():
        shutil.rmtree(key)
    else:
        key.unlink()
    key.write_bytes(content)
    key.chmod(0o600)
    daemon.start()
    assert ballast.answer_of(daemon.client(), "pets", version, seed) == born
