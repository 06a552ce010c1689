package lab

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"time"
)

// stateRoot holds one folder per lab: its record, certificates, kubeconfigs and logs.
const stateRoot = "/run/lanyard-lab"

// Record is what the machine knows of a lab beyond the life of the process that made it. It names all that a sweep may
// remove: the namespaces that begin with the prefix, the processes, and the data folder.
type Record struct {
	Prefix     string          `json:"prefix"`
	Created    time.Time       `json:"created"`
	Persistent bool            `json:"persistent"` // stays until `lab down`
	Owner      ProcessID       `json:"owner"`      // who builds it, and unless persistent, keeps it
	Reaper     ProcessID       `json:"reaper"`     // who removes it when the owner has died
	DataDir    string          `json:"dataDir"`    // etcd's files
	BinDir     string          `json:"binDir"`     // where its programs come from
	Hosts      []string        `json:"hosts,omitempty"`
	Processes  []ProcessRecord `json:"processes,omitempty"`
}

// ProcessRecord names a process of the lab.
type ProcessRecord struct {
	ProcessID
	Name string `json:"name"`
	Host string `json:"host"`
	Log  string `json:"log"`
}

// ProcessID tells a process from any later one that gets the same number.
type ProcessID struct {
	PID int `json:"pid"`
	// Start is the start time in clock ticks since boot, from /proc/PID/stat.
	Start uint64 `json:"start"`
}

// processID reads the identity of a running process.
func processID(pid int) (ProcessID, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return ProcessID{}, fmt.Errorf("read the start time of process %d: %w", pid, err)
	}
	// The name in parentheses may hold anything; the state follows it, and the start time is the 20th field from there.
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	if len(fields) < 20 {
		return ProcessID{}, fmt.Errorf("read the start time of process %d: short line %q", pid, stat)
	}
	if fields[0] == "Z" || fields[0] == "X" {
		return ProcessID{}, fmt.Errorf("process %d has ended", pid)
	}
	start, err := strconv.ParseUint(fields[19], 10, 64)
	if err != nil {
		return ProcessID{}, fmt.Errorf("read the start time of process %d: %w", pid, err)
	}
	return ProcessID{PID: pid, Start: start}, nil
}

// Alive tells whether this very process still runs; one that only waits to be reaped does not.
func (p ProcessID) Alive() bool {
	now, err := processID(p.PID)
	return err == nil && now == p
}

func stateDir(prefix string) string { return filepath.Join(stateRoot, prefix) }

// dataDirName begins the name of the folder that holds a lab's bulky files, in the place for temporary files.
func dataDirName(prefix string) string { return "lanyard-lab-" + prefix + "-" }

// reserve takes a prefix by making its folder, which only one can. An empty prefix takes the first free of lab1, lab2, ...
func reserve(prefix string) (string, error) {
	if err := os.MkdirAll(stateRoot, 0o755); err != nil {
		return "", fmt.Errorf("make %s: %w", stateRoot, err)
	}
	if prefix != "" {
		err := os.Mkdir(stateDir(prefix), 0o755)
		if errors.Is(err, os.ErrExist) {
			return "", fmt.Errorf("lab %s exists already: `lab status` shows it, `lab down %s` removes it", prefix, prefix)
		}
		return prefix, err
	}
	for i := 1; ; i++ {
		prefix = fmt.Sprintf("lab%d", i)
		if err := os.Mkdir(stateDir(prefix), 0o755); !errors.Is(err, os.ErrExist) {
			return prefix, err
		}
	}
}

// write replaces the record on disk, at once or not at all.
func (r Record) write() error {
	raw, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("encode the record of lab %s: %w", r.Prefix, err)
	}
	path := filepath.Join(stateDir(r.Prefix), "lab.json")
	if err := os.WriteFile(path+".new", raw, 0o644); err != nil {
		return fmt.Errorf("write the record of lab %s: %w", r.Prefix, err)
	}
	return os.Rename(path+".new", path)
}

// ReadRecord reads the record of a lab.
func ReadRecord(prefix string) (Record, error) {
	raw, err := os.ReadFile(filepath.Join(stateDir(prefix), "lab.json"))
	if err != nil {
		return Record{}, fmt.Errorf("read the record of lab %s: %w", prefix, err)
	}
	r := Record{Prefix: prefix}
	if err := json.Unmarshal(raw, &r); err != nil {
		return Record{}, fmt.Errorf("read the record of lab %s: %w", prefix, err)
	}
	return r, nil
}

// List returns the records of all labs of this machine, by prefix. A folder without a readable record, as a kill -9 in
// the first moments leaves it, is listed with its name alone.
func List() ([]Record, error) {
	entries, err := os.ReadDir(stateRoot)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("list labs: %w", err)
	}
	var records []Record
	for _, e := range entries {
		if !prefixPattern.MatchString(e.Name()) {
			continue
		}
		r, err := ReadRecord(e.Name())
		if err != nil {
			r = Record{Prefix: e.Name()}
			if info, err := e.Info(); err == nil {
				r.Created = info.ModTime()
			}
		}
		records = append(records, r)
	}
	sort.Slice(records, func(i, j int) bool { return records[i].Prefix < records[j].Prefix })
	return records, nil
}

// Status is the state of a lab in a word: "up" (persistent), "in use" (its owner runs) or "abandoned".
func (r Record) Status() string {
	switch {
	case r.Persistent:
		return "up"
	case r.Owner.Alive():
		return "in use"
	case time.Since(r.Created) < reserveGrace && r.Owner.PID == 0:
		return "starting"
	}
	return "abandoned"
}

// reserveGrace is how long a reserved folder may lack its record before it counts as abandoned.
const reserveGrace = 10 * time.Second
