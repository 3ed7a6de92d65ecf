// Package image reads disks from files and block devices, and writes recovery
// points as files that other programs take.
//
// [OpenFile] gives a raw image or a block device as a replication.Source, with its
// holes, and notices what should not happen to it meanwhile. [Delta] limits a
// source to what is known to have changed, for instance by the list that
// [ReadChanged] reads. [Export] writes a source as raw, fixed VHD, qcow2, VHDX or
// VMDK; the last three through qemu-img.
//
// # What is promised
//
// An image is under its name complete and durable, or not there. A file that is
// there is not replaced unless the caller says so, and then by the complete new
// one in one step. An image shows the source byte for byte; what a format adds at
// the end, because it knows only whole sectors, is zero and is told.
//
// # What is not
//
// Nothing here freezes a disk: a file that somebody writes to while it is read is
// no instant. OpenFile refuses what it can recognize as being in use and Check
// notices most of the rest, but a snapshot is the caller's to make.
package image
