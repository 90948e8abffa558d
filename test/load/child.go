package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"time"

	"github.com/tarn-fhir/tarn/test/blackbox/process"
)

// child is this program again, as a server to compare with; it ends when its
// input does.
type child struct {
	bareReady
	command *exec.Cmd
	in      io.Closer
}

// startChild starts it with a flag, gives it a script, where it wants one, and
// waits until it serves.
func startChild(ctx context.Context, flag string, script any) (*child, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	command := exec.CommandContext(ctx, self, flag)
	command.Stderr = os.Stderr
	in, err := command.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := command.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := command.Start(); err != nil {
		return nil, err
	}
	c := &child{command: command, in: in}
	if script != nil {
		err = json.NewEncoder(in).Encode(script)
	}
	if err = errors.Join(err, json.NewDecoder(out).Decode(&c.bareReady)); err != nil {
		return nil, errors.Join(err, c.stop())
	}
	return c, nil
}

// cpu is the processor time it has used.
func (c *child) cpu() (time.Duration, error) { return process.CPUOf(c.command.Process.Pid) }

func (c *child) stop() error { return errors.Join(c.in.Close(), c.command.Wait()) }
