package state

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"
)

const (
	savedName    = "state.json"
	savedVersion = 1
	savedMax     = 64 << 20 // bytes of state.json that are read
)

// What Load returns, wrapped, when there is no state to go on from.
var (
	ErrNone      = errors.New("no state was saved")
	ErrDamaged   = errors.New("the saved state is damaged")
	ErrVersion   = errors.New("the saved state is of an unknown version")
	ErrOtherBoot = errors.New("the saved state is of another boot")
)

// saved is the content of state.json. A truncated one is no JSON, since the
// last byte that means something closes it.
type saved struct {
	Version int             `json:"version"`
	Boot    string          `json:"boot"` // "" where there is no boot id
	Time    time.Time       `json:"time"`
	Payload json.RawMessage `json:"payload"`
}

// Save keeps payload as the last state: a reader finds this one or the one
// before, whole. It does not wait for the disk, since a state means nothing
// after the next boot: then one that is not whole is refused like any other of
// another boot.
//
// Preconditions: the caller holds the lock of d, and calls Save from one
// goroutine at a time.
func (d *Dir) Save(payload json.RawMessage) error {
	boot, err := d.boot()
	if err != nil {
		return err
	}
	data, err := json.Marshal(saved{Version: savedVersion, Boot: boot, Time: time.Now().UTC(), Payload: payload})
	if err != nil {
		return fmt.Errorf("state: encode the state: %w", err)
	}
	_, err = writeFile(d.Join(savedName), append(data, '\n'), 0o600)
	return err
}

// Load gives the last state of this boot. Any of the errors above means that
// there is none to go on from.
func (d *Dir) Load() (json.RawMessage, error) {
	path := d.Join(savedName)
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("state: %s: %w", path, ErrNone)
	}
	if err != nil {
		return nil, fmt.Errorf("state: read %s: %w", path, bare(err))
	}
	defer f.Close() // it was only read
	data, err := io.ReadAll(io.LimitReader(f, savedMax+1))
	if err != nil {
		return nil, fmt.Errorf("state: read %s: %w", path, bare(err))
	}
	boot, err := d.boot()
	if err != nil {
		return nil, err
	}
	payload, err := decodeSaved(data, boot)
	if err != nil {
		return nil, fmt.Errorf("state: %s: %w", path, err)
	}
	return payload, nil
}

// decodeSaved understands the content of state.json.
func decodeSaved(data []byte, boot string) (json.RawMessage, error) {
	if len(data) > savedMax {
		return nil, fmt.Errorf("%w: longer than %d bytes", ErrDamaged, savedMax)
	}
	if len(bytes.TrimSpace(data)) == 0 {
		return nil, fmt.Errorf("%w: empty", ErrDamaged)
	}
	// The version before the rest, which another version may have changed.
	var v struct {
		Version int `json:"version"`
	}
	if err := json.Unmarshal(data, &v); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if v.Version != savedVersion {
		return nil, fmt.Errorf("%w: %d, this upgrader knows %d", ErrVersion, v.Version, savedVersion)
	}
	var s saved
	if err := json.Unmarshal(data, &s); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if s.Boot != boot {
		return nil, ErrOtherBoot
	}
	if len(s.Payload) == 0 {
		return nil, fmt.Errorf("%w: nothing in it", ErrDamaged)
	}
	return s.Payload, nil
}

// Forget removes the last state: the service has stopped.
func (d *Dir) Forget() error {
	if err := os.Remove(d.Join(savedName)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("state: remove %s: %w", d.Join(savedName), bare(err))
	}
	return nil
}
