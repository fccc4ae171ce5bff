# What the commands of ./run share: messages, packages, builds, the Python environment. Sourced, never run.

say() {
    printf '== %s\n' "$*"
}

fail() {
    printf './run: %s\n' "$*" >&2
    exit 1
}

require_root() {
    [ "$(id -u)" = 0 ] || fail "thawd makes namespaces and cgroups, which needs root. Try: sudo ./run $1"
}

# install_packages NAME...: install those that are missing, and only those.
install_packages() {
    command -v dpkg-query >/dev/null || return 0 # Not Debian's family: the compiler will say what is missing.
    local missing=() name have
    have=$(dpkg-query -W -f='${db:Status-Status} ${Package}\n' "$@" 2>/dev/null | sed -n 's/^installed //p' || true)
    for name in "$@"; do
        grep -qxF "$name" <<<"$have" || missing+=("$name")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    [ "$(id -u)" = 0 ] || fail "these packages are missing: sudo apt-get install ${missing[*]}"
    say "installing ${missing[*]}"
    export DEBIAN_FRONTEND=noninteractive
    # The lists may be old or absent; so try what is there first, and fetch them anew when that fails.
    apt-get install -qq -y --no-install-recommends "${missing[@]}" >/dev/null 2>&1 && return 0
    apt-get update -qq
    apt-get install -qq -y --no-install-recommends "${missing[@]}" >/dev/null
}

# The Java runtime's tests need any JDK, and Maven for the libraries that functions bring. Whatever is there will do.
install_java() {
    compgen -G '/usr/lib/jvm/*/bin/javac' >/dev/null || install_packages default-jdk-headless
    command -v mvn >/dev/null || install_packages maven
}

# What builds the official clients' tests and examples in Go, Rust and Node. What is in PATH will do, of any origin.
install_clients() {
    command -v go >/dev/null || install_packages golang-go
    command -v cmake >/dev/null && command -v g++ >/dev/null && command -v make >/dev/null ||
        install_packages cmake g++ make
    command -v npm >/dev/null || install_packages npm
    [ -f /usr/include/node/node_api.h ] || install_packages libnode-dev
    install_cargo
}

# lambda_runtime wants Rust 1.84. Distributions whose `cargo` is older bring a newer one under another name: Debian 12
# for its browsers (cargo-web), Ubuntu 24.04 one for each version (cargo-1.89), whose programs it names likewise.
install_cargo() {
    if cargo_will_do; then
        return 0
    fi
    local name newest
    apt-get update -qq
    newest=$(apt-cache pkgnames cargo-1. | grep -E '^cargo-1\.[0-9]+$' | sort -t. -k2n | tail -1)
    for name in cargo-web ${newest:+"$newest"} cargo; do
        apt-cache policy "$name" 2>/dev/null | grep -q 'Candidate: [0-9]' || continue
        install_packages "$name"
        break
    done
    if [ "${name#cargo-1.}" != "$name" ]; then
        mkdir -p build/bin
        ln -sf "/usr/bin/$name" build/bin/cargo
        ln -sf "/usr/bin/rustc-${name#cargo-}" build/bin/rustc
        export PATH=$PWD/build/bin:$PATH
    fi
    cargo_will_do || fail "the Rust here is older than 1.84, and no package brings a newer one"
}

cargo_will_do() {
    [ ! -x build/bin/cargo ] || export PATH=$PWD/build/bin:$PATH
    local minor
    command -v cargo >/dev/null || return 1
    minor=$(cargo --version | sed -n 's/^cargo 1\.\([0-9]*\).*/\1/p')
    [ "${minor:-0}" -ge 84 ]
}

# The .NET runtime's tests need any .NET from 8 on with its C# compiler. Debian has none: then one comes from npm's registry,
# by the help of a package in the tests' Python (so prepare_venv is to be called before).
install_dotnet() {
    local ours=/usr/local/lib/dotnet
    if [ -f "$ours/installed-for-thaw-tests" ] ||
        [ -z "$(ls /usr/{lib,share,lib64,local/share,local/lib}/dotnet/sdk/*/Roslyn/bincore/csc.dll 2>/dev/null)" ]; then
        command -v npm >/dev/null || install_packages npm
        say "making sure of a .NET in $ours"
        quietly build/dotnet.log tests/dotnet/install.sh "$ours" build/venv/bin/python
    fi
    runtimes/dotnet/build.sh
}

# The object store of the tests, from npm (so install_clients and prepare_venv are to be called before).
install_s3() {
    [ -d build/s3/node_modules/s3rver ] || say "installing an S3 server into build/s3"
    (cd tests && PYTHONDONTWRITEBYTECODE=1 quietly ../build/s3.log ../build/venv/bin/python s3.py)
}

# quietly LOG COMMAND...: run it with its output in LOG, which is shown only when it fails.
quietly() {
    local log=$1
    shift
    if ! "$@" >"$log" 2>&1 </dev/null; then
        cat "$log" >&2
        fail "failed: $*"
    fi
}

# build_into FOLDER [meson option...]: configure when needed, then build what changed.
build_into() {
    local folder=$1 list python
    shift
    mkdir -p "$folder"
    # Meson reads the lists of sources when it configures, so a file that came or went means: configure again.
    list=$(find src tests -name '*.c' -o -name '*.S' -o -name meson.build | LC_ALL=C sort)
    if [ ! -f "$folder/build.ninja" ]; then
        say "configuring $folder"
        quietly "$folder/setup.log" meson setup "$folder" "$@"
    elif [ "$list" != "$(cat "$folder/sources.txt" 2>/dev/null)" ]; then
        quietly "$folder/setup.log" meson setup --reconfigure "$folder" "$@"
    fi
    printf '%s\n' "$list" >"$folder/sources.txt"
    say "building $folder"
    quietly "$folder/ninja.log" ninja -C "$folder"
    # What makes the clones of a Node function unique.
    [ runtimes/node/unique.node -nt runtimes/node/unique.c ] ||
        cc -std=c17 -Wall -Wextra -O2 -shared -fPIC -o runtimes/node/unique.node runtimes/node/unique.c
    # What keeps the memory of a Python function's versions alike; one for all versions of Python.
    [ runtimes/python/thaw_region.abi3.so -nt runtimes/python/region.c ] ||
        cc -std=c17 -Wall -Wextra -O2 -shared -fPIC -o runtimes/python/thaw_region.abi3.so runtimes/python/region.c
    runtimes/java/build.sh # nothing, where there is no JDK
    runtimes/dotnet/build.sh # nothing, where there is no .NET SDK
    # Functions see the bootstrap read-only, so what compiling it takes would be lost at every cold start.
    for python in /usr/bin/python3.[0-9] /usr/bin/python3.[0-9][0-9]; do
        [ ! -x "$python" ] || "$python" -m compileall -q runtimes/python
    done
}

# The tests' own Python, so that they run the same everywhere.
prepare_venv() {
    local wanted=tests/requirements.txt
    cmp -s "$wanted" build/venv/installed.txt && return 0
    say "preparing build/venv"
    mkdir -p build
    # Debian's own interpreter: another one that is first in PATH may be gone tomorrow.
    quietly build/venv.log /usr/bin/python3 -m venv --clear build/venv
    quietly build/venv.log build/venv/bin/pip install --quiet --disable-pip-version-check -r "$wanted"
    cp "$wanted" build/venv/installed.txt
}

# The AWS CLI: the system's, Debian's package, or (where there is no such package) one from PyPI.
find_aws_cli() {
    if AWS_CLI=$(command -v aws); then
        return 0
    fi
    if apt-cache policy awscli 2>/dev/null | grep -q 'Candidate: [0-9]'; then
        install_packages awscli
        AWS_CLI=$(command -v aws)
    else
        install_packages "${packages_python[@]}"
        prepare_venv
        AWS_CLI=$PWD/build/venv/bin/aws
    fi
}

c_files() { # every C file of ours, NUL-separated
    find src tests examples \( -name '*.c' -o -name '*.h' \) -print0 | LC_ALL=C sort -z
}
