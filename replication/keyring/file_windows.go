package keyring

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"unsafe"

	"golang.org/x/sys/windows"
)

// private leaves it to the file's access list, which Windows does not show as a mode,
// and to the seal.
func private(fs.FileInfo) error { return nil }

// onlyOwners admits the owner, administrators and the system, and inherits nothing.
const onlyOwners = "D:P(A;;FA;;;OW)(A;;FA;;;BA)(A;;FA;;;SY)"

// restrict gives a file the access list onlyOwners.
func restrict(name string) error {
	descriptor, err := windows.SecurityDescriptorFromString(onlyOwners)
	if err != nil {
		return err
	}
	list, _, err := descriptor.DACL()
	if err != nil {
		return err
	}
	return windows.SetNamedSecurityInfo(name, windows.SE_FILE_OBJECT,
		windows.DACL_SECURITY_INFORMATION|windows.PROTECTED_DACL_SECURITY_INFORMATION, nil, nil, list, nil)
}

// machineSeal: the service and the administrator at the command line are two accounts,
// and both must be able to open the file.
const machineSeal = windows.CRYPTPROTECT_LOCAL_MACHINE | windows.CRYPTPROTECT_UI_FORBIDDEN

// protect seals the keys with DPAPI for this machine.
func protect(p []byte) (body []byte, protection string, err error) {
	sealed, err := dpapi(p, func(in, out *windows.DataBlob) error {
		return windows.CryptProtectData(in, nil, nil, 0, nil, machineSeal, out)
	})
	if err != nil {
		return nil, "", fmt.Errorf("seal by DPAPI: %w", err)
	}
	return []byte(base64.StdEncoding.EncodeToString(sealed) + "\n"), "dpapi", nil
}

func unprotect(p []byte, protection string) ([]byte, error) {
	switch protection {
	case "": // brought from another system; the next change seals it
		return p, nil
	case "dpapi":
	default:
		return nil, fmt.Errorf("it is sealed by %q, which this version does not know", protection)
	}
	sealed, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(p)))
	if err != nil || len(sealed) == 0 {
		return nil, errors.New("what DPAPI sealed is damaged")
	}
	plain, err := dpapi(sealed, func(in, out *windows.DataBlob) error {
		return windows.CryptUnprotectData(in, nil, nil, 0, nil, windows.CRYPTPROTECT_UI_FORBIDDEN, out)
	})
	if err != nil {
		return nil, fmt.Errorf("DPAPI does not open it, perhaps it is of another machine: %w", err)
	}
	return plain, nil
}

// dpapi calls one of the two functions and frees what Windows allocated.
func dpapi(p []byte, call func(in, out *windows.DataBlob) error) ([]byte, error) {
	in := windows.DataBlob{Size: uint32(len(p)), Data: unsafe.SliceData(p)}
	var out windows.DataBlob
	if err := call(&in, &out); err != nil {
		return nil, err
	}
	result := append([]byte(nil), unsafe.Slice(out.Data, out.Size)...)
	_, err := windows.LocalFree(windows.Handle(unsafe.Pointer(out.Data)))
	return result, err
}

// takeName gives a file another name that must not be taken yet, durably.
func takeName(from, to string) error {
	a, err := windows.UTF16PtrFromString(from)
	if err != nil {
		return err
	}
	b, err := windows.UTF16PtrFromString(to)
	if err != nil {
		return err
	}
	err = windows.MoveFileEx(a, b, windows.MOVEFILE_WRITE_THROUGH)
	if errors.Is(err, windows.ERROR_ALREADY_EXISTS) || errors.Is(err, windows.ERROR_FILE_EXISTS) {
		return fs.ErrExist
	}
	return err
}

// syncFolder has no counterpart on Windows; NTFS keeps its names in a journal.
func syncFolder(string) error { return nil }
