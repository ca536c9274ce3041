package main

import (
	"os"
	"runtime"
	"runtime/debug"
	"strings"
)

// machine describes the hardware and the software of a measurement.
type machine struct {
	CPU      string
	Cores    int // number of cores that Go uses
	System   string
	Load     string // load average of the last minute, as a hint of other activity
	Go       string
	Versions map[string]string // module versions, by path
}

func thisMachine() machine {
	m := machine{
		CPU:      "unknown CPU",
		Cores:    runtime.GOMAXPROCS(0),
		System:   runtime.GOOS + "/" + runtime.GOARCH,
		Load:     "unknown",
		Go:       runtime.Version(),
		Versions: map[string]string{},
	}
	if text, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(text)) {
			if key, value, _ := strings.Cut(line, ":"); strings.TrimSpace(key) == "model name" {
				m.CPU = strings.TrimSpace(value)
				break
			}
		}
	}
	if text, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		m.System += ", kernel " + strings.TrimSpace(string(text))
	}
	if text, err := os.ReadFile("/proc/loadavg"); err == nil {
		m.Load, _, _ = strings.Cut(string(text), " ")
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, dep := range info.Deps {
			m.Versions[dep.Path] = dep.Version
		}
	}
	return m
}
