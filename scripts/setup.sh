#!/usr/bin/env bash
# Prepares .venv and the system's programs; does nothing where that is done already.
#
#   scripts/setup.sh demo           what the platform needs to run here
#   scripts/setup.sh demo-llm       and language models, with torch
#   scripts/setup.sh demo-finetune  and training on top of that
#   scripts/setup.sh lint           and the tools of development
#   scripts/setup.sh test           and the servers and the browser that tests use
#
# PYTHON names the interpreter to build on. uv is used where there is one, else pip; both keep to
# their own settings (UV_*, PIP_*).
set -euo pipefail
cd "$(dirname "$0")/.."

set_name="${1:-demo}"
torch=""
case "$set_name" in
    demo) roles="web ocr" packages="tesseract-ocr tesseract-ocr-kor fonts-nanum" ;;
    demo-llm) roles="web ocr demo-llm" torch=requirements/torch.txt packages="" ;;
    demo-finetune) roles="web ocr demo-finetune" torch=requirements/torch.txt packages="" ;;
    lint) roles="web ocr dev" packages="kubernetes-client prometheus npm" ;;
    test)
        # Every engine that the product names is tested, so all of them are installed.
        roles="web ocr ocr-paddle ocr-easyocr ocr-transformers llm finetune dev"
        torch=requirements/torch.txt
        packages="tesseract-ocr tesseract-ocr-kor fonts-nanum redis-server postgresql chromium poppler-utils nginx-light kubernetes-client prometheus npm"
        ;;
    *)
        sed -n 's/^# \{0,1\}//; 2,8p' "$0" >&2
        exit 2
        ;;
esac

say() { echo "setup: $*"; }
fail() {
    echo "setup: $*" >&2
    exit 1
}

# -- Python ---------------------------------------------------------------------------------

fits() { "$1" -c 'import sys; sys.exit(sys.version_info[:2] not in [(3, 11), (3, 12)])' 2> /dev/null; }

find_python() {
    local candidate
    for candidate in ${PYTHON:+"$PYTHON"} python3.11 python3.12 python3 \
        /usr/bin/python3.11 /usr/bin/python3.12; do
        if fits "$candidate"; then
            echo "$candidate"
            return
        fi
    done
    fail "needs Python 3.11 or 3.12 (apt-get install -y python3 python3-venv; or PYTHON=/path/to/python3.11)"
}

make_venv() {
    local python uv="$1"
    python="$(find_python)"
    say "making .venv with $("$python" --version)"
    if "$python" -c 'import ensurepip' 2> /dev/null; then
        "$python" -m venv .venv
    elif [ -n "$uv" ]; then
        "$uv" venv --quiet --python "$python" .venv
    elif can_install && install_packages python3-venv && "$python" -c 'import ensurepip' 2> /dev/null; then
        "$python" -m venv .venv
    else
        fail "this Python cannot make environments; run: apt-get install -y python3-venv"
    fi
}

# Which build of torch: that of a folder of wheels where the settings name one, else the one that
# fits the machine. Left alone, uv would take 3 GB of CUDA to a machine that has no GPU.
torch_build() {
    local folder="${UV_FIND_LINKS:-${PIP_FIND_LINKS:-}}"
    [ -n "$folder" ] || folder="$(.venv/bin/python -m pip config get global.find-links 2> /dev/null || true)"
    if [ -n "$folder" ]; then
        echo "--find-links $folder"
    elif [ -z "${UV_TORCH_BACKEND:-}" ]; then
        echo "--torch-backend auto"
    fi
}

install_requirements() {
    local files=() build=() role uv="$1" uv_compile=--compile-bytecode pip_compile=--compile
    for role in $roles; do files+=(-r "requirements/$role.txt"); done
    if [ -n "$torch" ]; then
        files+=(-r "$torch")
        # Of 2.5 GB the tests import a small part: that is compiled when it is imported.
        uv_compile=--no-compile-bytecode pip_compile=--no-compile
    fi
    if [ -n "$uv" ]; then
        say "installing $roles with uv"
        if [ -n "$torch" ]; then read -ra build <<< "$(torch_build)"; fi
        if "$uv" pip install --quiet "$uv_compile" --python .venv/bin/python "${build[@]}" "${files[@]}"; then return; fi
        say "uv could not; trying pip, whose settings may differ"
    fi
    if ! .venv/bin/python -m pip --version > /dev/null 2>&1; then .venv/bin/python -m ensurepip > /dev/null; fi
    say "installing $roles with pip (a minute or two)"
    .venv/bin/python -m pip install -qq --disable-pip-version-check "$pip_compile" "${files[@]}"
}

# -- System programs ------------------------------------------------------------------------

have() {
    local found
    case "$1" in
        tesseract-ocr) command -v tesseract > /dev/null ;;
        tesseract-ocr-kor)
            found="$(tesseract --list-langs 2> /dev/null || true)"
            grep -qx kor <<< "$found"
            ;;
        redis-server) command -v redis-server > /dev/null ;;
        postgresql) compgen -G '/usr/lib/postgresql/*/bin/initdb' > /dev/null || command -v initdb > /dev/null ;;
        chromium) command -v chromium > /dev/null ;;
        nginx-light) command -v nginx > /dev/null || [ -x /usr/sbin/nginx ] ;;
        poppler-utils) command -v pdftotext > /dev/null ;;
        prometheus) command -v promtool > /dev/null ;;
        npm) command -v npm > /dev/null ;;
        # Either builds the manifests of docker/k8s.
        kubernetes-client) command -v kubectl > /dev/null || command -v kustomize > /dev/null ;;
        *) [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2> /dev/null)" = installed ] ;;
    esac
}

can_install() { [ "$(id -u)" -eq 0 ] && command -v apt-get > /dev/null; }

install_packages() {
    local apt=(env DEBIAN_FRONTEND=noninteractive apt-get -qq -y -o DPkg::Lock::Timeout=60)
    "${apt[@]}" install --no-install-recommends "$@" > /dev/null 2>&1 && return
    # The package lists are missing or old.
    "${apt[@]}" update > /dev/null && "${apt[@]}" install --no-install-recommends "$@" > /dev/null
}

install_programs() {
    local package missing=()
    for package in $packages; do
        have "$package" || missing+=("$package")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    if can_install; then
        say "installing ${missing[*]}"
        install_packages "${missing[@]}" && return
    fi
    say "going on without ${missing[*]}; to have them, run:"
    say "    $([ "$(id -u)" -eq 0 ] || echo 'sudo ')apt-get install -y --no-install-recommends ${missing[*]}"
}

# Debian has no Cerbos, but its makers put the program into an npm package.
install_cerbos() {
    local version arch folder=.venv/lib/cerbos
    version="$(sed -n 's/.*image: cerbos\/cerbos:\([0-9.]*\).*/\1/p' compose.yml)"
    case "$(uname -m)" in x86_64) arch=x64 ;; *) arch=arm64 ;; esac
    if [ "$(cat "$folder/version" 2> /dev/null || true)" = "$version" ]; then return; fi
    say "installing cerbos"
    mkdir -p "$folder"
    if npm install --prefix "$folder" --no-save --ignore-scripts --no-audit --no-fund \
        "@cerbos/cerbos-linux-$arch@$version" > "$folder/log" 2>&1; then
        ln -sf "../lib/cerbos/node_modules/@cerbos/cerbos-linux-$arch/cerbos-linux-$arch" .venv/bin/cerbos
        echo "$version" > "$folder/version"
    else
        say "going on without cerbos: $(tail -n 1 "$folder/log")"
    fi
}

# -------------------------------------------------------------------------------------------

uv="${UV:-$(command -v uv || true)}"
if [ ! -e .venv ]; then
    make_venv "$uv"
elif ! fits .venv/bin/python; then
    fail ".venv does not hold a working Python 3.11 or 3.12; remove it (make clean), then try again"
fi
if [ -z "$uv" ] && [ -x .venv/bin/uv ]; then uv=.venv/bin/uv; fi

stamp=".venv/.setup-${roles// /-}"
now="$({ .venv/bin/python --version; cat requirements/constraints.txt $torch; for role in $roles; do cat "requirements/$role.txt"; done; } | sha256sum)"
if [ "$(head -n 1 "$stamp" 2> /dev/null || true)" != "$now" ]; then
    install_requirements "$uv"
    # Sets agree on versions as long as the constraints are the same; else the other ones may have
    # been changed with this one.
    pins="$(sha256sum < requirements/constraints.txt)"
    for other in .venv/.setup-*; do grep -qxF "$pins" "$other" 2> /dev/null || rm -f "$other"; done
    printf '%s\n%s\n' "$now" "$pins" > "$stamp"
fi
install_programs
case "$set_name" in lint | test) install_cerbos ;; esac
