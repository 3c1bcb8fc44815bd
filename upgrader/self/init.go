package self

import (
	"os"
	"strconv"
)

// initVariable names the descriptor over which an upgrader tells its init who
// took over.
const initVariable = "UPGRADER_INIT_FD"

// Above is the small init that started this upgrader, or the one before it.
type Above struct{ file *os.File }

// UnderInit gives the init above; nil when there is none. It is called once,
// before anything is started.
func UnderInit() *Above {
	text := os.Getenv(initVariable)
	_ = os.Unsetenv(initVariable) // an error is for names that cannot be
	fd, err := strconv.Atoi(text)
	if err != nil || fd < 3 {
		return nil
	}
	closeOnExec(fd)
	return InheritInit(os.NewFile(uintptr(fd), "init"))
}

// InheritInit is UnderInit for a successor, which was handed f.
func InheritInit(f *os.File) *Above {
	if f == nil {
		return nil
	}
	return &Above{f}
}

// File lends the descriptor, for a successor; nil without an init.
func (a *Above) File() *os.File {
	if a == nil {
		return nil
	}
	return a.file
}

// Succeeded tells the init, before this process ends, who took over.
func (a *Above) Succeeded(pid int) error {
	if a == nil {
		return nil
	}
	_, err := a.file.WriteString(strconv.Itoa(pid) + "\n")
	return err
}

// Passed is a descriptor that the init hands to its upgrader; Variable says its
// number there.
type Passed struct {
	Variable string
	File     *os.File
}
