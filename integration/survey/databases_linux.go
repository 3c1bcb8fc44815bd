package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"strconv"
)

// runAs runs a command that fills dir as who works in p, to its end. Root has another user for that.
func runAs(ctx context.Context, p place, root, dir string, command ...string) error {
	uid, gid := p.uid, p.uid
	if uid == 0 {
		u, err := user.Lookup(root)
		if err != nil {
			return err
		}
		var err1, err2 error
		uid, err1 = strconv.Atoi(u.Uid)
		gid, err2 = strconv.Atoi(u.Gid)
		if err1 != nil || err2 != nil {
			return fmt.Errorf("%s has uid %s and gid %s", root, u.Uid, u.Gid)
		}
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	if err := os.Chown(dir, uid, gid); err != nil {
		return err
	}
	c := exec.CommandContext(ctx, command[0], command[1:]...)
	c.Dir, c.SysProcAttr = "/", as(uid, gid)
	if out, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("%v: %w: %s", command, err, out)
	}
	return nil
}

// userFlags are those by which root becomes somebody else.
func userFlags(p place, root string) []string {
	if p.uid != 0 {
		return nil
	}
	return []string{"--user", root}
}

// databases have one data folder: their generations come one after the other.
func databases() []server {
	return []server{
		{
			name: "PostgreSQL", tools: []string{"postgres", "initdb", "pg_isready"}, version: []string{"postgres", "--version"},
			strategy: exclusive, signal: "INT",
			command: func(ctx context.Context, p place) ([]string, error) {
				data := p.path("data")
				err := runAs(ctx, p, "postgres", data, find("initdb"), "-D", data, "-A", "trust", "-U", "postgres", "--no-sync")
				return []string{find("postgres"), "-D", data, "-k", data, "-h", "127.0.0.1", "-p", fmt.Sprint(port)}, err
			},
			flags: func(p place) []string {
				return append(userFlags(p, "postgres"), "--stop-timeout", "60s", "--ready", fmt.Sprintf("exec=pg_isready -q -h 127.0.0.1 -p %d", port))
			},
			loads: spokenTo(postgres{}, 4, 40),
		},
		{
			name: "MariaDB", tools: []string{"mariadbd", "mariadb-install-db", "mysqladmin"}, version: []string{"mariadbd", "--version"},
			strategy: exclusive,
			command: func(ctx context.Context, p place) ([]string, error) {
				data := p.path("data")
				err := runAs(ctx, p, "mysql", data, find("mariadb-install-db"), "--no-defaults", "--datadir="+data,
					"--auth-root-authentication-method=normal", "--skip-test-db", "--innodb-log-file-size=8M", "--innodb-flush-method=nosync")
				return []string{
					find("mariadbd"), "--no-defaults", "--datadir=" + data, "--socket=" + data + "/socket", "--pid-file=" + data + "/pid",
					"--bind-address=127.0.0.1", "--port=" + fmt.Sprint(port), "--skip-name-resolve", "--innodb-log-file-size=8M",
				}, err
			},
			flags: func(p place) []string {
				return append(userFlags(p, "mysql"), "--stop-timeout", "60s", "--ready",
					fmt.Sprintf("exec=mysqladmin --no-defaults --protocol=tcp -h 127.0.0.1 -P %d -u root ping", port))
			},
			loads: spokenTo(mysql{}, 4, 40),
		},
	}
}
