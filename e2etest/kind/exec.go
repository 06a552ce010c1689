package kind

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os/exec"
	"strings"
)

// command runs a program to its end. What it says on standard error is in the error.
func command(ctx context.Context, in io.Reader, out io.Writer, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	return run(cmd, in, out)
}

func run(cmd *exec.Cmd, in io.Reader, out io.Writer) error {
	var stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = in, out, &stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args, " "), err, strings.TrimSpace(stderr.String()))
	}
	return nil
}

// docker runs docker and returns what it prints.
func docker(ctx context.Context, args ...string) (string, error) {
	var out bytes.Buffer
	err := command(ctx, nil, &out, "docker", args...)
	return strings.TrimSpace(out.String()), err
}

// writeFile writes a file on a node, whole or not at all: who reads it may do so at any time.
func writeFile(ctx context.Context, node, path string, content []byte) error {
	script := fmt.Sprintf("cat >%[1]s.new && mv %[1]s.new %[1]s", path)
	if err := command(ctx, bytes.NewReader(content), nil, "docker", "exec", "-i", node, "sh", "-c", script); err != nil {
		return fmt.Errorf("write %s on %s: %w", path, node, err)
	}
	return nil
}
