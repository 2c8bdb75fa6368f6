//go:build !linux

package main

import "os/exec"

func halves() (served, asking uint64) { return 0, 0 }

func startOn(cmd *exec.Cmd, _ uint64) error { return cmd.Start() }
