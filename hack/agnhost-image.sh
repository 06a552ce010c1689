#!/usr/bin/env bash
# agnhost-image.sh IMAGE AGNHOST makes, with docker but without a registry, the image that Kubernetes' e2e tests run in
# their Pods: the program AGNHOST, and what the tests call by a shell: busybox, curl and nc of this machine with their
# libraries.
set -euo pipefail
image=$1 agnhost=$2

root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
mkdir -p "$root"/{bin,etc,tmp,uploads}
chmod 1777 "$root/tmp"
install "$agnhost" "$root/agnhost"
install "$(command -v busybox)" "$root/bin/busybox"
install "$(command -v curl)" "$root/bin/curl"
install "$(command -v nc.openbsd)" "$root/bin/nc"
for program in "$root"/bin/*; do
  for lib in $(ldd "$program" 2>/dev/null | grep -o '/[^ ]*' || true); do cp -L --parents "$lib" "$root"; done
done
for applet in $(busybox --list); do [ -e "$root/bin/$applet" ] || ln -s busybox "$root/bin/$applet"; done

tar -C "$root" --owner=0 --group=0 -c . |
  docker import -c 'ENTRYPOINT ["/agnhost"]' -c 'CMD ["pause"]' -c 'ENV PATH=/bin' - "$image" >/dev/null
