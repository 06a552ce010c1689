#!/usr/bin/env bash
# agnhost-image.sh IMAGE AGNHOST makes, with docker but without a registry, the image that Kubernetes' e2e tests run in
# their Pods: the program AGNHOST, and what the tests of load balancers call by a shell, taken from this machine with the
# libraries it needs.
set -euo pipefail
image=$1 agnhost=$2

root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
mkdir -p "$root"/{bin,etc,tmp}
chmod 1777 "$root/tmp"
install "$agnhost" "$root/agnhost"
for program in sh cat seq sleep curl wget nc.openbsd; do
  install "$(readlink -f "$(command -v $program)")" "$root/bin/${program%.openbsd}"
done
for program in "$root"/bin/*; do
  for lib in $(ldd "$program" | grep -o '/[^ ]*'); do cp -L --parents "$lib" "$root"; done
done
echo 'tries = 1' >"$root/etc/wgetrc" # as of the wget that the tests expect: a refusal takes seconds, not minutes

tar -C "$root" --owner=0 --group=0 -c . |
  docker import -c 'ENTRYPOINT ["/agnhost"]' -c 'CMD ["pause"]' -c 'ENV PATH=/bin' - "$image" >/dev/null
