#!/bin/sh
# Makes disk.vdi anew, without vdkit: sfdisk (fdisk), mkfs.vfat (dosfstools), mtools and qemu-img (qemu-utils).
# The guest content comes out the same every time; the image itself does not, since qemu-img draws new UUIDs.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

cat > README.TXT <<'TEXT'
This file lies in the FAT file system of the first partition of disk.vdi.
If you can read it, the image was opened or converted correctly.
TEXT
awk 'BEGIN { for (n = 2; count < 10000; n++) { prime = 1
  for (i = 1; i <= count && p[i] * p[i] <= n; i++) if (n % p[i] == 0) { prime = 0; break }
  if (prime) { p[++count] = n; print n } } }' > PRIMES.TXT
awk 'BEGIN { print "n,square"; for (n = 0; n < 2000; n++) print n "," n * n }' > SQUARES.CSV
touch -d '2026-01-01 00:00:00 UTC' README.TXT PRIMES.TXT SQUARES.CSV

# 8 MiB; the partition begins at 3 MiB, so that the image has blocks that are not stored before and after its data.
truncate -s 8M disk.raw
printf 'label: dos\nlabel-id: 0x5644494b\nstart=6144, size=10240, type=1, bootable\n' | sfdisk -q disk.raw
mkfs.vfat --invariant -i 5644494B -n SAMPLE -F 12 -s 8 --offset=6144 disk.raw 5120 > mkfs.log
export TZ=UTC MTOOLSRC=/dev/null
mcopy -m -i disk.raw@@3M README.TXT PRIMES.TXT SQUARES.CSV ::/

qemu-img convert -f raw -O vdi disk.raw disk.vdi
sha256sum disk.raw
mv disk.vdi "$here/disk.vdi"
