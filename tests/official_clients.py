"""The official runtime clients from their registries, unmodified, in packages for the `provided` runtimes.

Each package is built once into the build directory, from the sources in tests/clients/, and again when those change."""

import concurrent.futures
import functools
import glob
import hashlib
import inspect
import io
import os
import pathlib
import re
import shutil
import stat
import subprocess
import sys
import zipfile

import harness

SOURCES = harness.ROOT / "tests/clients"
TARGET = harness.BUILD / "clients"

PYTHON_CLIENT = ["awslambdaric==4.2.2", "simplejson==3.20.2", "snapshot-restore-py==1.0.0"]
NODE_CLIENT = "aws-lambda-ric@4.0.2"
GO_CLIENT = "v1.55.1"  # wants Go 1.26: with an older one, the one that tests/clients/go/go.mod names


def run(*command, cwd, **variables):
    done = subprocess.run([str(part) for part in command], cwd=cwd, env={**os.environ, **variables}, timeout=900,
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          errors="replace")
    assert done.returncode == 0, f"{' '.join(map(str, command))} in {cwd}:\n{done.stdout[-6000:]}"
    return done.stdout


def build_python(folder):
    """The wheels for the interpreter of the host, whatever interpreter runs these tests."""
    version = harness.PYTHON.removeprefix("python")
    machine = os.uname().machine
    run(sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--target", ".",
        "--only-binary", ":all:", "--implementation", "cp", "--python-version", version,
        "--platform", f"manylinux2014_{machine}", "--platform", f"manylinux_2_17_{machine}", *PYTHON_CLIENT, cwd=folder)


def build_node(folder):
    """Its native part is compiled when it is installed. The headers are those of the Node that is installed, where its
    distribution brings them: node-gyp would fetch them from a site that is no registry."""
    headers = {"npm_config_nodedir": "/usr"} if os.path.exists("/usr/include/node/node_api.h") else {}
    run("npm", "install", "--no-audit", "--no-fund", "--no-save", "--foreground-scripts", NODE_CLIENT, cwd=folder,
        PATH="/usr/bin:" + os.environ["PATH"], **headers)
    modules = folder / "node_modules"
    for path in modules.iterdir():  # the rest was for the compilation
        if path.name not in ("aws-lambda-ric", "@aws"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    for name in ("deps", "node-addon-api", "node_modules", "src"):
        shutil.rmtree(modules / "aws-lambda-ric" / name, ignore_errors=True)


def java_home():
    """The first JDK from 11 on, as `runtimes/java/build.sh` chooses."""
    for release in sorted(glob.glob("/usr/lib/jvm/*/release")):
        major = re.search(r'JAVA_VERSION="(\d+)', pathlib.Path(release).read_text(encoding="utf-8"))
        home = os.path.dirname(release)
        if major and int(major[1]) >= 11 and os.path.exists(home + "/bin/javac"):
            return home
    raise AssertionError("there is no JDK in /usr/lib/jvm: apt-get install default-jdk-headless")


def build_java(folder):
    run("mvn", "-q", "-B", "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy-dependencies",
        "-DoutputDirectory=lib", cwd=folder)
    run(java_home() + "/bin/javac", "-nowarn", "-Xlint:-options", "--release", "11", "-d", "classes",
        "-cp", ":".join(str(jar) for jar in (folder / "lib").glob("*.jar")), *(folder / "src").rglob("*.java"), cwd=folder)
    shutil.rmtree(folder / "src")
    (folder / "pom.xml").unlink()
    (folder / "bootstrap").write_text(
        f"#!/bin/sh\nexec {java_home()}/bin/java -Dorg.crac.Core.Compat=com.amazonaws.services.lambda.crac -XX:TieredStopAtLevel=1 -XX:+UseSerialGC -Xshare:auto "
        "-cp '/var/task/classes:/var/task/lib/*' com.amazonaws.services.lambda.runtime.api.client.AWSLambda \"$_HANDLER\"\n")


# How Rust is compiled in tests: quickly. What one package has compiled of its dependencies, the next one uses.
CARGO = {"CARGO_TARGET_DIR": str(harness.BUILD / "cargo"), "CARGO_PROFILE_RELEASE_OPT_LEVEL": "0",
         "CARGO_PROFILE_RELEASE_STRIP": "true"}


def build_rust(folder):
    run("cargo", "build", "--quiet", "--locked", "--release", cwd=folder, **CARGO)
    leave_only(folder, harness.BUILD / "cargo/release/official-client")


def go_version():
    return tuple(int(n) for n in re.findall(r"\d+", run("go", "env", "GOVERSION", cwd="/"))[:2])


def build_go(folder):
    module = folder / "go.mod"
    if go_version() >= (1, 26):
        module.write_text(re.sub(r"(aws-lambda-go) v\S+", rf"\1 {GO_CLIENT}", module.read_text()))
    run("go", "build", "-mod=mod", "-buildvcs=false", "-o", "executable", ".", cwd=folder, CGO_ENABLED="0")
    leave_only(folder, folder / "executable")


def leave_only(folder, executable):
    """The package is the executable, and nothing else."""
    code = executable.read_bytes()
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    (folder / "bootstrap").write_bytes(code)


BUILDERS = {"python": build_python, "node": build_node, "java": build_java, "rust": build_rust, "go": build_go}


def sources_digest(name):
    how = inspect.getsource(BUILDERS[name]), PYTHON_CLIENT, NODE_CLIENT, GO_CLIENT
    digest = hashlib.sha256(repr(how).encode())
    for path in harness.files_below(SOURCES / name):
        digest.update(str(path).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def build(name):
    """The folder that holds the package of one client, built when it must be."""
    folder, stamp = TARGET / name, TARGET / f"{name}.built"
    digest = sources_digest(name)
    if not stamp.exists() or stamp.read_text() != digest:
        stamp.unlink(missing_ok=True)
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(SOURCES / name, folder)
        BUILDERS[name](folder)
        stamp.write_text(digest)
    return folder


def build_all(names):
    """At once, as much of it is waiting for registries and for configure scripts."""
    with concurrent.futures.ThreadPoolExecutor(len(BUILDERS)) as pool:
        list(pool.map(build, names))


@functools.lru_cache(None)
def package(name):
    """The zip of one client's function."""
    folder = build(name)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for path in harness.files_below(folder):
            info = zipfile.ZipInfo(str(path.relative_to(folder)), (2026, 1, 1, 0, 0, 0))
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = (stat.S_IFREG | (0o755 if path.name == "bootstrap" else 0o644)) << 16
            archive.writestr(info, path.read_bytes())
    return out.getvalue()


if __name__ == "__main__":
    build_all(BUILDERS)
