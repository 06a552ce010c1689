#!/usr/bin/env bash
# Checks for the commands that the lab and the race detector need, and for those that are named: docker, debootstrap, and
# agnhost for what the image of Kubernetes' own tests is made of. As root on Debian it installs what is missing; otherwise it
# says exactly what to install.
set -euo pipefail

missing=()
need() { command -v "$1" >/dev/null || PATH=$PATH:/usr/sbin:/sbin command -v "$1" >/dev/null || missing+=("$2"); }
need ip iproute2
need nft nftables
need iptables iptables
need conntrack conntrack
need gcc gcc
[ -e /usr/include/stdlib.h ] || missing+=(libc6-dev)
need git git
for command in "$@"; do
  case $command in
    docker) need docker docker.io; docker info >/dev/null 2>&1 || need dockerd docker.io ;;
    debootstrap) need debootstrap debootstrap ;;
    agnhost) need curl curl; need wget wget; need nc.openbsd netcat-openbsd ;;
    *) echo "usage: $0 [docker] [debootstrap] [agnhost]" >&2; exit 2 ;;
  esac
done

if ! command -v go >/dev/null; then
  echo "Go is missing: install the version that go.mod names (or newer), see https://go.dev/dl" >&2
  exit 1
fi
[ ${#missing[@]} -eq 0 ] && exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  echo "installing ${missing[*]}"
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
else
  echo "missing: ${missing[*]}   (on Debian: apt-get install ${missing[*]})" >&2
  exit 1
fi
