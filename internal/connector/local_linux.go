package connector

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"strconv"
	"syscall"
)

// localRefusal says why the plane may not run servers as the user it is.
func localRefusal() string {
	if os.Geteuid() != 0 {
		return ""
	}
	if _, _, err := localUser(); err != nil {
		return "PostgreSQL does not run as root, and there is no user postgres to run it as"
	}
	return ""
}

// localUser is whom the server runs as if the plane is root.
func localUser() (uid, gid uint32, err error) {
	u, err := user.Lookup("postgres")
	if err != nil {
		return 0, 0, err
	}
	id, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return 0, 0, err
	}
	group, err := strconv.ParseUint(u.Gid, 10, 32)
	return uint32(id), uint32(group), err
}

func giveToLocalUser(path string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	uid, gid, err := localUser()
	if err != nil {
		return err
	}
	return os.Chown(path, int(uid), int(gid))
}

// localCommand runs a program of PostgreSQL on a data directory. As root it
// runs as user postgres, who may not enter the plane's directory: it is handed
// the data directory and the password's file open, and names them by number.
// release is to be called when the process was started.
func localCommand(ctx context.Context, bin, dir string, password *os.File, args ...string) (cmd *exec.Cmd, release func(), err error) {
	end := &syscall.SysProcAttr{Pdeathsig: syscall.SIGINT, Setpgid: true}
	if os.Geteuid() != 0 {
		cmd = plainCommand(ctx, bin, dir, password, args...)
		cmd.SysProcAttr = end
		return cmd, func() {}, nil
	}
	uid, gid, err := localUser()
	if err != nil {
		return nil, nil, err
	}
	if err := giveToLocalUser(dir); err != nil {
		return nil, nil, err
	}
	open, err := os.Open(dir)
	if err != nil {
		return nil, nil, err
	}
	args = append([]string{"-D", "/proc/self/fd/3"}, args...)
	files := []*os.File{open}
	if password != nil {
		if err := giveToLocalUser(password.Name()); err != nil {
			_ = open.Close()
			return nil, nil, err
		}
		args, files = append(args, "--pwfile", fmt.Sprintf("/proc/self/fd/%d", 4)), append(files, password)
	}
	cmd = exec.CommandContext(ctx, bin, args...)
	end.Credential = &syscall.Credential{Uid: uid, Gid: gid}
	cmd.Dir, cmd.Env, cmd.ExtraFiles, cmd.SysProcAttr = "/", localEnv(), files, end
	return cmd, func() { _ = open.Close() }, nil
}

func interrupt(pid int) { _ = syscall.Kill(pid, syscall.SIGINT) }
func quit(pid int)      { _ = syscall.Kill(pid, syscall.SIGQUIT) }
