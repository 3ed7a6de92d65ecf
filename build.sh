#!/usr/bin/env bash
# Builds, runs, tests, checks, proves, measures and releases Riparo. The calls and
# what they promise stand in "usage" below. On a fresh Debian or Ubuntu with Go,
# nothing has to be typed before any of them.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

usage() {
	cat <<-'EOM'
	./build.sh                          builds dist/riparo and dist/riparo-mobility for this machine
	./build.sh run                      builds, plays the whole story on the embedded lab, and leaves the console open
	./build.sh test [PACKAGE…]          installs what the tests need and runs all that this machine can run
	./build.sh check                    quick gate: format, vet, staticcheck, generated files, house test, Windows build
	./build.sh prove [--short] [--only WORD] [--json]
	                                    power cuts, planted bugs, fuzzing and more; prints every figure
	./build.sh bench [--short] [--json] [--only WORK,…] [--rounds N]
	                                    Riparo against its peers in one run, as ratios
	./build.sh release                  all platforms with checksums and list of parts, into dist/
	EOM
}

# Pure Go everywhere: one file that runs on any machine of its kind. Only the race
# detector needs C, and sets this itself.
export CGO_ENABLED=0
say() { printf '%s\n' "$*" >&2; }
die() { say "build.sh: $*"; exit 1; }

need_go() {
	command -v go >/dev/null || die "Go is not installed: see https://go.dev/dl/; $(sed -n 's/^go /Go /p' go.mod) or newer is needed"
}

version() {
	git describe --tags --always --dirty 2>/dev/null || echo unversioned
}

# build SYSTEM ARCHITECTURE FOLDER: both programs, the same bytes wherever it runs.
build() {
	local suffix='' program
	[ "$1" != windows ] || suffix=.exe
	mkdir -p "$3"
	for program in riparo riparo-mobility; do
		GOOS=$1 GOARCH=$2 go build -trimpath -buildvcs=false -ldflags "-s -w -buildid= -X main.version=$(version)" -o "$3/$program$suffix" "./appliance/cmd/$program"
	done
}

build_here() { build "$(go env GOOS)" "$(go env GOARCH)" dist; }

# own PROGRAM …: one of the small programs in .tools; compiled once, then cached.
own() {
	local name=$1
	shift
	go build -C .tools -o ../dist/.tools/ "./$name"
	"dist/.tools/$name" "$@"
}

# What the tests use, as command:package. The tests of a guest need an emulator and a
# tiny userland, and fetch a kernel themselves; those of the disk commands the tools of
# others, which judge what we say; those of the console a browser. gcc is for the race
# detector.
needs=(
	gcc:gcc gcc:libc6-dev
	qemu-system-x86_64:qemu-system-x86 qemu-img:qemu-utils qemu-ga:qemu-guest-agent
	libvirtd:libvirt-daemon-system virsh:libvirt-clients
	nbdkit:nbdkit nbdinfo:libnbd-bin nbdcopy:libnbd-bin
	busybox:busybox-static
	mkfs.ext4:e2fsprogs mkfs.xfs:xfsprogs
	chromium:chromium
	promtool:prometheus
	slapd:slapd
)

# What is measured against. A peer that is not there is left out, and the output says so.
peers=(
	restic:restic borg:borgbackup rsync:rsync qemu-img:qemu-utils qemu-nbd:qemu-utils nbdcopy:libnbd-bin
	lz4:lz4 zstd:zstd
)

# install_needs PURPOSE NEED…: what is missing of it.
install_needs() {
	local need missing=() purpose=$1
	shift
	for need in "$@"; do
		PATH=$PATH:/usr/sbin:/sbin command -v "${need%%:*}" >/dev/null || missing+=("${need#*:}")
	done
	[ ${#missing[@]} -gt 0 ] || return 0
	if ! command -v apt-get >/dev/null || [ "$(id -u)" -ne 0 ]; then
		say "Not installed here: ${missing[*]}. What needs them is left out and says so."
		say "As root on Debian or Ubuntu this installs them by itself."
		return 0
	fi
	say "Installing what the $purpose need: ${missing[*]}"
	export DEBIAN_FRONTEND=noninteractive
	apt-get update -qq || say "apt-get update did not succeed; trying with the lists that are here"
	local package
	apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null && return 0
	# One that this release does not have must not keep the others out.
	for package in "${missing[@]}"; do
		apt-get install -y -qq --no-install-recommends "$package" >/dev/null || say "Not installed: $package. What needs it is left out and says so."
	done
}

# axe-core judges pages as people with a screen reader or a keyboard meet them. It
# comes from npm, where that is installed; it is for tests only.
axe=axe-core@4.14.1
install_axe() {
	local to=dist/.tools/${axe/@/-}
	if [ ! -f "$to/axe.min.js" ]; then
		command -v npm >/dev/null || { say "npm is not installed: pages are judged without axe-core."; return 0; }
		local from
		from=$(mktemp -d)
		if npm install --silent --no-audit --no-fund --ignore-scripts --prefix "$from" "$axe" >/dev/null; then
			mkdir -p "$to"
			cp "$from/node_modules/axe-core/axe.min.js" "$to/"
		else
			say "npm did not give $axe: pages are judged without it."
		fi
		rm -rf "$from"
	fi
	[ ! -f "$to/axe.min.js" ] || export RIPARO_AXE=$PWD/$to/axe.min.js
}

# Packages whose tests start guests, browsers or whole daemons, judge gigabytes, or let
# worlds run by the hundred, one event at a time: the race detector would slow those
# down, not what it is to look at.
guests='/replication/sim$|/hypervisor/kvm|/hypervisor/lab|/appliance$|/appliance/cmd/|/appliance/demo|/web$'

# The pictures that the tests of the console take of its pages, kept to be looked at.
# They stay when tests come from the cache, which knows whether they are there.
keep_pictures() {
	export RIPARO_SHOTS=${RIPARO_SHOTS:-$PWD/dist/shots}
	mkdir -p "$RIPARO_SHOTS"
}

test_all() {
	need_go
	install_needs tests "${needs[@]}"
	install_axe
	keep_pictures
	export PATH=$PATH:/usr/sbin:/sbin
	local packages race=() plain=() p status=0
	mapfile -t packages < <(go list "${@:-./...}")
	[ ${#packages[@]} -gt 0 ] || die "no package matches $*"
	for p in "${packages[@]}"; do
		if can_race && ! [[ $p =~ $guests ]]; then race+=("$p"); else plain+=("$p"); fi
	done
	say "Pictures of pages go to $RIPARO_SHOTS"
	can_race || say "Without a C compiler the race detector cannot run; the tests run without it."
	{
		[ ${#race[@]} -eq 0 ] || CGO_ENABLED=1 go test -json -race -timeout 20m "${race[@]}" || true
		[ ${#plain[@]} -eq 0 ] || go test -json -timeout 30m "${plain[@]}" || true
	} | own testsummary || status=$?
	return $status
}

can_race() {
	command -v gcc >/dev/null && case $(go env GOOS)/$(go env GOARCH) in linux/amd64 | linux/arm64) ;; *) false ;; esac
}

# check is silent when all is well; otherwise it tells all that is wrong, not only
# the first of it.
check() {
	need_go
	local status=0
	check_format || status=1
	go vet ./... || status=1
	GOOS=windows go vet ./... || status=1
	go vet -C .tools ./... || status=1
	quiet go test -C .tools -short ./... || status=1
	# The tool is built for this machine, also when it looks at code for another.
	go build -modfile=.tools/go.mod -o dist/.tools/ honnef.co/go/tools/cmd/staticcheck
	dist/.tools/staticcheck ./... || status=1
	GOOS=windows dist/.tools/staticcheck ./... || status=1
	check_generated || status=1
	check_licenses || status=1
	quiet go test -count=1 -run 'House|Rule|Room' ./appliance || status=1
	GOOS=windows go build -o /dev/null ./... || status=1
	return $status
}

check_format() {
	local unformatted
	unformatted=$(gofmt -l appliance hypervisor replication store web .tools)
	[ -z "$unformatted" ] || { say "not formatted (run gofmt -w): $unformatted"; return 1; }
}

# quiet runs a command and shows what it said only when it fails.
quiet() {
	local said
	said=$("$@" 2>&1) || { say "$said"; return 1; }
}

# check_generated makes the Go files of the templates again, elsewhere, and compares.
check_generated() {
	[ -n "$(find web -name '*.templ' -print -quit)" ] || return 0
	local copy status=0 name
	go build -modfile=.tools/go.mod -o dist/.tools/ github.com/a-h/templ/cmd/templ
	copy=$(mktemp -d)
	cp go.mod "$copy/"
	find web -name '*.templ' -exec tar -cf - {} + | tar -xf - -C "$copy"
	# In each folder by itself, as the files name their template.
	for name in $(find web -name '*.templ' -printf '%h\n' | sort -u); do
		quiet env -C "$copy/$name" "$PWD/dist/.tools/templ" generate || status=1
	done
	while read -r name; do
		cmp -s "$copy/$name" "$name" || { say "not what its template gives (in its folder: go tool -modfile=../../.tools/go.mod templ generate): $name"; status=1; }
	done < <({ find web -name '*_templ.go'; env -C "$copy" find web -name '*_templ.go'; } | sort -u)
	rm -rf "$copy"
	return $status
}

# check_licenses gathers the license texts of what is linked again, and compares.
check_licenses() {
	local made status=0
	made=$(mktemp)
	own licenses > "$made" || status=1
	[ $status -ne 0 ] || cmp -s "$made" appliance/licenses/licenses.txt || { say "not the licenses of what is linked: cp $made appliance/licenses/licenses.txt"; return 1; }
	rm -f "$made"
	return $status
}

release() {
	need_go
	local target v
	v=$(version)
	rm -rf dist/release
	for target in linux/amd64 linux/arm64 windows/amd64; do
		say "building $target"
		build "${target%/*}" "${target#*/}" "dist/release/riparo-$v-${target/\//-}"
	done
	own bill "$v" dist/release > "dist/release/riparo-$v.cdx.json"
	(
		cd dist/release
		for target in riparo-"$v"-*/; do
			cp ../../README.md ../../appliance/licenses/licenses.txt "$target"
			# The same bytes every time: names sorted, owners and times fixed.
			tar --sort=name --owner=0 --group=0 --numeric-owner --mtime=@0 -cf - "${target%/}" | gzip -9n > "${target%/}.tar.gz"
			rm -rf "$target"
		done
		sha256sum -- *.tar.gz *.json > SHA256SUMS
		cat SHA256SUMS
	)
}

call=${1-}
[ $# -eq 0 ] || shift
case $call in
'') need_go; build_here ;;
run) need_go; build_here; exec dist/riparo demo "$@" ;;
test) test_all "$@" ;;
check) check ;;
prove) need_go; install_needs proofs "${needs[@]}"; build_here; own prove "$@" ;;
bench) need_go; install_needs measurements "${peers[@]}"; build_here; own bench "$@" ;;
release) release ;;
-h | --help | help) usage ;;
*) usage >&2; exit 2 ;;
esac
