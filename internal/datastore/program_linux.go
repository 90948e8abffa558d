package datastore

import (
	"bufio"
	"io"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// releaseProgram lets go of the pages of constants of the running program that
// are in memory: what the binary carries (patients, definitions, dictionaries)
// was read for work that is done. They are clean pages of a file, which the
// kernel maps again when they are asked for. Best effort: where it fails, they
// stay until the kernel wants the room.
func releaseProgram() {
	program, err := os.Executable()
	if err != nil {
		return
	}
	maps, err := os.Open("/proc/self/smaps")
	if err != nil {
		return
	}
	defer func() { _ = maps.Close() }()
	for _, m := range constants(maps, program) {
		_, _, _ = unix.Syscall(unix.SYS_MADVISE, m.from, m.to-m.from, unix.MADV_DONTNEED)
	}
}

// mapping is a range of addresses.
type mapping struct{ from, to uintptr }

// constants reads proc(5) smaps for what is mapped of the program, can be neither
// written nor run, and is as it is in the file. The last matters: a linker's
// relocations are made read-only once they are written, and letting go of those
// would undo them.
func constants(smaps io.Reader, program string) []mapping {
	var found []mapping
	var at mapping
	ours := false
	for lines := bufio.NewScanner(smaps); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		switch {
		case len(fields) > 0 && !strings.HasSuffix(fields[0], ":"):
			at, ours = constant(fields, program)
		case ours && len(fields) > 1 && fields[0] == "Anonymous:" && fields[1] == "0":
			found = append(found, at)
		}
	}
	return found
}

// constant reads the line that begins a mapping: from-to, permissions, offset,
// device, inode and path.
func constant(fields []string, program string) (mapping, bool) {
	if len(fields) < 6 || fields[1] != "r--p" || strings.Join(fields[5:], " ") != program {
		return mapping{}, false
	}
	first, last, _ := strings.Cut(fields[0], "-")
	from, errFrom := strconv.ParseUint(first, 16, 64)
	to, errTo := strconv.ParseUint(last, 16, 64)
	return mapping{uintptr(from), uintptr(to)}, errFrom == nil && errTo == nil && from < to
}
