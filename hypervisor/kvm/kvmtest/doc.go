// Package kvmtest has a machine for testing the QEMU providers that starts in a tenth of
// a second and whose every state is known: its guest is a boot sector, and in the
// guest's place the test writes, through the disks' devices, on the path that a guest's
// writes take. Package guest has machines that boot for real.
package kvmtest
