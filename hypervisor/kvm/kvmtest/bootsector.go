package kvmtest

// Hello is what the boot sector says on the first serial port.
const Hello = "a boot sector says hello\r\n"

// BootSector is a program that a BIOS starts: it prints Hello and sleeps.
func BootSector() []byte {
	code := []byte{
		0xfa,       // cli
		0x31, 0xc0, // xor ax, ax
		0x8e, 0xd8, // mov ds, ax
		0xbe, 0x18, 0x7c, // mov si, 0x7c18 (the text, below)
		0xba, 0xf8, 0x03, // mov dx, 0x3f8
		0xac,       // next: lodsb
		0x84, 0xc0, // test al, al
		0x74, 0x03, // jz end
		0xee,       // out dx, al
		0xeb, 0xf8, // jmp next
		0xf4,       // end: hlt
		0xeb, 0xfd, // jmp end
		0x90, 0x90,
	}
	sector := make([]byte, 512)
	copy(sector, code)
	copy(sector[0x18:], Hello)
	sector[510], sector[511] = 0x55, 0xaa
	return sector
}
