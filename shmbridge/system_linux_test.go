package shmbridge

func systemRoles() map[string]func([]string) error { return nil }
