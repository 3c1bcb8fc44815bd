package winevents

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// sidecar is what follows a pid file's name in the name of the file that proves
// it. The pid file itself is digits only: an unmodified peer reads all of it.
const sidecar = ".meta"

// WritePidFile writes id's process id to path, and id itself as JSON to
// path.meta, each by rename and the proof first. Call it after [NewAsked], so
// that whoever reads it finds the events.
func WritePidFile(path string, id Identity) error {
	if id.Pid <= 0 {
		return fmt.Errorf("winevents: write pid file %s: process id %d", path, id.Pid)
	}
	proof, err := json.Marshal(id)
	if err == nil {
		err = replaceFile(path+sidecar, proof)
	}
	if err == nil {
		err = replaceFile(path, strconv.AppendInt(nil, int64(id.Pid), 10))
	}
	if err != nil {
		return fmt.Errorf("winevents: write pid file: %w", err)
	}
	return nil
}

// RemovePidFile removes what WritePidFile wrote, unless the pid file names
// another process by now.
func RemovePidFile(path string, id Identity) error {
	c, err := readPidFile(path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && c.Pid != id.Pid {
		return nil
	}
	if err != nil {
		return fmt.Errorf("winevents: remove pid file: %w", err)
	}
	for _, name := range []string{path, path + sidecar} {
		if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("winevents: remove pid file: %w", err)
		}
	}
	return nil
}

func replaceFile(path string, content []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Chmod(f.Name(), 0o644)
	}
	if err == nil {
		err = rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name()) // the error that counts is on its way
	}
	return err
}

// readPidFile returns what the pid file claims. Proof of another process than
// the file names is of an earlier one: an unmodified peer wrote the file since.
func readPidFile(path string) (claim, error) {
	info, err := os.Stat(path)
	if err != nil {
		return claim{}, err
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return claim{}, err
	}
	pid, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 32)
	if err != nil || pid == 0 {
		return claim{}, fmt.Errorf("%w: %s", ErrPidFile, path)
	}
	c := claim{Identity: Identity{Pid: int(pid)}, written: info.ModTime()}
	proof, err := os.ReadFile(path + sidecar)
	if errors.Is(err, fs.ErrNotExist) {
		return c, nil
	}
	if err != nil {
		return claim{}, err
	}
	var id Identity
	if json.Unmarshal(proof, &id) == nil && id.Pid == c.Pid { // a broken proof is none
		c.Identity = id
	}
	return c, nil
}
