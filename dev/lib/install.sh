# shellcheck shell=bash
# What this machine lacks: Debian packages, pgvector, moto, npm packages, and our own build.
# Mirror and registry are the ones that apt and npm are configured with; none is named here.

PGVECTOR_MIN=0.8.0
PGVECTOR_SUITE=trixie # where Debian 12 takes pgvector's source and moto's package from

debian_suite() (
    . /etc/os-release
    printf '%s' "${VERSION_CODENAME:-unknown}"
)

postgres_major() {
    case $(debian_suite) in
        bookworm) printf 15 ;;
        trixie) printf 17 ;;
        *) refuse "Cordon sets itself up on Debian 12 and 13; elsewhere use compose.yaml." ;;
    esac
}

postgres_bin() { printf '/usr/lib/postgresql/%s/bin' "$(postgres_major)"; }

wanted_packages() {
    awk -v suite="$(debian_suite)" '!/^#/ && NF && ($2 == "*" || index("," $2 ",", "," suite ","))  { print $1 }' "$ROOT/dev/packages.txt"
    command -v npm >/dev/null || echo npm
}

missing_packages() {
    local wanted
    wanted=$(wanted_packages)
    comm -23 <(sort -u <<<"$wanted") \
        <(dpkg-query -W -f '${db:Status-Abbrev} ${Package}\n' $wanted 2>/dev/null | sed -n 's/^ii *//p' | sort -u)
}

apt() {
    as_root env DEBIAN_FRONTEND=noninteractive LC_ALL=C apt-get -q -y -o Dpkg::Use-Pty=0 \
        -o DPkg::Lock::Timeout=300 -o Dpkg::Options::=--force-unsafe-io "$@"
}

install_packages() {
    local missing
    postgres_major >/dev/null
    missing=$(missing_packages)
    if [[ -z $missing ]]; then
        note "nothing missing"
        return
    fi
    # postgresql-common would make and start a cluster of its own on 5432; ours is private, and others are not touched.
    local quiet=/etc/postgresql-common/createcluster.d/cordon.conf
    as_root mkdir -p "${quiet%/*}"
    echo 'create_main_cluster = false' | as_root tee "$quiet" >/dev/null
    trap 'as_root rm -f '"$quiet" EXIT
    apt update
    # shellcheck disable=SC2086 # one word each
    apt install --no-install-recommends $missing
    note "$(wc -w <<<"$missing") installed"
}

debian_mirror() {
    apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Origin: Debian' | grep -v security | sed -n 1p
}

# apt_elsewhere DIR KIND: apt's options for a private view of another Debian suite on this machine's own mirror,
# with its lists and cache in DIR; the machine's own lists stay as they are.
apt_elsewhere() {
    local dir=$1 kind=$2 mirror
    mirror=$(debian_mirror)
    [[ -n $mirror ]] || { apt update && mirror=$(debian_mirror); }
    [[ -n $mirror ]] || refuse "apt knows no Debian mirror"
    mkdir -p "$dir/lists/partial" "$dir/cache/archives/partial"
    echo "$kind [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $PGVECTOR_SUITE main" >"$dir/sources.list"
    APT_ELSEWHERE=(-q -o "Dir::Etc::SourceList=$dir/sources.list" -o Dir::Etc::SourceParts=- -o "Dir::State::Lists=$dir/lists"
        -o "Dir::Cache=$dir/cache" -o APT::Sandbox::User="$(id -un)")
    apt-get "${APT_ELSEWHERE[@]}" update
}

pgvector_version() {
    sed -n "s/^default_version *= *'\(.*\)'/\1/p" "/usr/share/postgresql/$(postgres_major)/extension/vector.control" 2>/dev/null
}

has_pgvector() {
    local have
    have=$(pgvector_version)
    [[ -n $have && $(printf '%s\n' "$PGVECTOR_MIN" "$have" | sort -V | head -n 1) == "$PGVECTOR_MIN" ]]
}

# Debian 12 has no pgvector: Debian 13's source, built for PostgreSQL 15. The server's development files are only
# unpacked here, because installing them would bring all of LLVM.
install_pgvector() {
    local dir major make_args
    if has_pgvector; then
        note "$(pgvector_version)"
        return
    fi
    major=$(postgres_major)
    dir=$(mktemp -d)
    trap 'rm -rf '"$dir" EXIT
    cd "$dir"
    apt-get -q -o APT::Sandbox::User="$(id -un)" download "postgresql-server-dev-$major"
    dpkg-deb -x postgresql-server-dev-*.deb dev
    apt_elsewhere "$dir" deb-src
    apt-get "${APT_ELSEWHERE[@]}" source --download-only pgvector
    tar xf pgvector_*.orig.tar.gz
    make_args=(-s -j"$(nproc)" -C "$(echo "$dir"/pgvector-*/)" "PG_CONFIG=/usr/lib/postgresql/$major/bin/pg_config" OPTFLAGS=
        with_llvm=no "includedir_server=$dir/dev/usr/include/postgresql/$major/server")
    make "${make_args[@]}"
    as_root make "${make_args[@]}" install
    has_pgvector || refuse "pgvector is '$(pgvector_version)' after its installation, and at least $PGVECTOR_MIN is needed"
    note "$(pgvector_version), built"
}

# On Debian 12 the one package of moto, unpacked beside Debian's own Python libraries; /usr/bin/python3 runs it.
moto_path() { [[ $(debian_suite) == bookworm ]] && printf '%s/moto/usr/lib/python3/dist-packages' "$SHARED" || true; }

# To import it takes a second: what was unpacked is tried once.
try_moto() {
    PYTHONPATH=$(moto_path) /usr/bin/python3 -c 'import moto.moto_server.werkzeug_app' || return 1
    [[ -z $(moto_path) ]] || : >"$SHARED/moto/tried"
}

install_moto() {
    local dir
    if [[ -f $SHARED/moto/tried ]] || try_moto 2>/dev/null; then
        note "there"
        return
    fi
    dir=$(mktemp -d)
    trap 'rm -rf '"$dir" EXIT
    apt_elsewhere "$dir" deb
    cd "$dir"
    apt-get "${APT_ELSEWHERE[@]}" download python3-moto
    rm -rf "$SHARED/moto"
    dpkg-deb -x python3-moto_*.deb "$SHARED/moto"
    try_moto
    note "installed"
}

# dev/ as the stand-ins run it: copied, so that their Unix users need no way into the checkout.
install_app() {
    local app="$SHARED/app" lock
    mkdir -p "$app"
    cp "$ROOT"/dev/{package.json,package-lock.json,.npmrc} "$app/"
    lock=$(sha256sum <"$app/package-lock.json")
    if [[ $lock == "$(cat "$app/.installed" 2>/dev/null)" ]]; then
        note "nothing changed"
    else
        (cd "$app" && npm ci --no-progress --loglevel=error)
        # The Node.js that everything runs on; npm 9 leaves out the link that .bin should have.
        ln -sfn "$(cd "$app" && echo node_modules/node-linux-*/bin/node)" "$app/node"
        "$app/node" --version
        echo "$lock" >"$app/.installed"
        note "$(ls "$app/node_modules" | wc -l) packages"
    fi
    # New files under new names first: a running stand-in never sees half a folder.
    for part in cloud idp; do
        rm -rf "$app/$part.new"
        mkdir "$app/$part.new"
        [[ -d $ROOT/dev/$part ]] && cp -R "$ROOT/dev/$part/." "$app/$part.new/"
        if ! diff -rq "$app/$part" "$app/$part.new" >/dev/null 2>&1; then
            rm -rf "${app:?}/$part"
            mv "$app/$part.new" "$app/$part"
        fi
        rm -rf "$app/$part.new"
    done
    rm -rf "$app/iam"
    cp -R "$ROOT/terraform/iam" "$app/iam"
    chmod -R a+rX "$app"
}

# build NAME CMAKE-ARGS...: into $SHARED/build/NAME. Configured once: ninja sees by itself when that is due again, and
# CMake finds some packages' flags in another order the second time, which would compile everything anew.
build() {
    local dir="$SHARED/build/$1" given
    shift
    given="$ROOT $*"
    mkdir -p "$dir"
    if [[ ! -f $dir/build.ninja || $given != "$(cat "$dir/configured" 2>/dev/null)" ]]; then
        flock "$dir" cmake -S "$ROOT" -B "$dir" -G Ninja "$@"
        echo "$given" >"$dir/configured"
    fi
    run_ninja "$dir"
    note "${dir#"$ROOT/"}"
}

# run_ninja FOLDER TARGET...: one at a time in a folder.
run_ninja() {
    local dir=$1
    shift
    flock "$dir" ninja -C "$dir" -j"${CORDON_BUILD_JOBS:-$(nproc)}" "$@"
}

build_release() { build release -DCMAKE_BUILD_TYPE=RelWithDebInfo -DCORDON_TESTS=OFF; }

install_everything() {
    exec 8>"$SHARED/setup.lock"
    flock -n 8 || { say "  another ./cordon is setting up; waiting for it"; flock 8; }
    step "Debian packages" install_packages
    step "pgvector" install_pgvector
    step "moto (AWS stand-in)" install_moto
    step "npm packages" install_app
    exec 8>&-
}
