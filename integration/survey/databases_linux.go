package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"strconv"
)

// runAs runs a command as another user, to its end.
func runAs(ctx context.Context, name, dir string, command ...string) error {
	u, err := user.Lookup(name)
	if err != nil {
		return err
	}
	uid, err1 := strconv.Atoi(u.Uid)
	gid, err2 := strconv.Atoi(u.Gid)
	if err1 != nil || err2 != nil {
		return fmt.Errorf("%s has uid %s and gid %s", name, u.Uid, u.Gid)
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

// databases have one data folder: their generations come one after the other.
func databases() []server {
	return []server{
		{
			name: "PostgreSQL", tools: []string{"postgres", "initdb", "pg_isready"}, version: []string{"postgres", "--version"},
			strategy: exclusive, signal: "INT", rootOnly: true,
			command: func(ctx context.Context, p place) ([]string, error) {
				data := p.path("data")
				err := runAs(ctx, "postgres", data, find("initdb"), "-D", data, "-A", "trust", "-U", "postgres", "--no-sync")
				return []string{find("postgres"), "-D", data, "-k", data, "-h", "127.0.0.1", "-p", fmt.Sprint(port)}, err
			},
			flags: func(place) []string {
				return []string{"--user", "postgres", "--stop-timeout", "60s", "--ready", fmt.Sprintf("exec=pg_isready -q -h 127.0.0.1 -p %d", port)}
			},
			loads: spokenTo(postgres{}, 4, 40),
		},
		{
			name: "MariaDB", tools: []string{"mariadbd", "mariadb-install-db", "mysqladmin"}, version: []string{"mariadbd", "--version"},
			strategy: exclusive, rootOnly: true,
			command: func(ctx context.Context, p place) ([]string, error) {
				data := p.path("data")
				err := runAs(ctx, "mysql", data, find("mariadb-install-db"), "--no-defaults", "--datadir="+data,
					"--auth-root-authentication-method=normal", "--skip-test-db", "--innodb-log-file-size=8M", "--innodb-flush-method=nosync")
				return []string{
					find("mariadbd"), "--no-defaults", "--datadir=" + data, "--socket=" + data + "/socket", "--pid-file=" + data + "/pid",
					"--bind-address=127.0.0.1", "--port=" + fmt.Sprint(port), "--skip-name-resolve", "--innodb-log-file-size=8M",
				}, err
			},
			flags: func(place) []string {
				return []string{"--user", "mysql", "--stop-timeout", "60s", "--ready",
					fmt.Sprintf("exec=mysqladmin --no-defaults --protocol=tcp -h 127.0.0.1 -P %d -u root ping", port)}
			},
			loads: spokenTo(mysql{}, 4, 40),
		},
	}
}
