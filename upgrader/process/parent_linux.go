package process

// Parent is the pid of the process's parent. ErrGone when it has ended.
func (id Identity) Parent() (int, error) {
	s, err := readStat(id.Pid)
	if err != nil {
		return 0, err
	}
	if s.Identity != id {
		return 0, ErrGone
	}
	return s.parent, nil
}
