package lab

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// faults are the frames that the switch drops, as rules of one nftables chain that every change writes anew.
type faults struct {
	mu  sync.Mutex
	set []fault
}

// faultTable is the nftables table of the switch that holds them. It is the lab's alone, on either ground.
const faultTable = "lanyard_lab"

// fault is one rule: nftables matches and a verdict, under the key that ends it.
type fault struct{ key, rule string }

// Unplug pulls every cable of a host: its NICs lose their carrier.
func (l *Lab) Unplug(host string) error { return l.eachNIC(host, (*NIC).PullCable) }

// Plug puts the cables back. As on real hardware the link is not there at once: the kernel may take up to a second.
func (l *Lab) Plug(host string) error { return l.eachNIC(host, (*NIC).PutCable) }

func (l *Lab) eachNIC(host string, f func(*NIC) error) error {
	var faults []error
	for _, nic := range l.Host(host).NICs() {
		faults = append(faults, f(nic))
	}
	return errors.Join(faults...)
}

// Mute makes the switch drop all frames from and to a host. Unlike Unplug, the host keeps its carrier: it notices nothing
// but silence.
func (l *Lab) Mute(host string) error {
	ports := l.ports(host)
	return l.setFault("mute "+host, "iifname "+ports+" drop", "oifname "+ports+" drop")
}

// Unmute ends Mute.
func (l *Lab) Unmute(host string) error { return l.setFault("mute " + host) }

// Drop makes the switch drop all frames from one host to another. The other way stays open: call Drop again for it.
func (l *Lab) Drop(from, to string) error {
	return l.setFault("drop "+from+" "+to, l.between(from, to)+" drop")
}

// Undrop ends Drop of the same direction.
func (l *Lab) Undrop(from, to string) error { return l.setFault("drop " + from + " " + to) }

// Part makes the switch drop all frames between two hosts, both ways; Unpart ends it.
func (l *Lab) Part(a, b string) error { return errors.Join(l.Drop(a, b), l.Drop(b, a)) }

// Unpart ends Part, and Drop of both directions.
func (l *Lab) Unpart(a, b string) error { return errors.Join(l.Undrop(a, b), l.Undrop(b, a)) }

// Lose makes the switch lose that many percent of the frames from one host to another, at random; 0 ends it.
func (l *Lab) Lose(from, to string, percent float64) error {
	key := "lose " + from + " " + to
	if percent <= 0 {
		return l.setFault(key)
	}
	if percent >= 100 {
		return l.setFault(key, l.between(from, to)+" drop")
	}
	return l.setFault(key, fmt.Sprintf("%s numgen random mod 10000 < %d drop", l.between(from, to), int(percent*100)))
}

// Block makes the switch drop what goes from one host to another by a protocol ("tcp" or "udp") to a port.
func (l *Lab) Block(from, to, protocol string, port int) error {
	rule := fmt.Sprintf("%s %s dport %d drop", l.between(from, to), protocol, port)
	return l.setFault(blockKey(from, to, protocol, port), rule)
}

// Unblock ends Block with the same arguments.
func (l *Lab) Unblock(from, to, protocol string, port int) error {
	return l.setFault(blockKey(from, to, protocol, port))
}

func blockKey(from, to, protocol string, port int) string {
	return fmt.Sprintf("block %s %s %s %d", from, to, protocol, port)
}

// PartGossip makes the switch drop what the speakers of two nodes tell each other, both ways, and nothing else: the nodes
// see each other on the LAN, and hear each other's ARP and NDP.
func (l *Lab) PartGossip(a, b string) error { return l.eachGossip(a, b, l.Block) }

// UnpartGossip ends PartGossip.
func (l *Lab) UnpartGossip(a, b string) error { return l.eachGossip(a, b, l.Unblock) }

func (l *Lab) eachGossip(a, b string, f func(from, to, protocol string, port int) error) error {
	var faults []error
	for _, protocol := range []string{"tcp", "udp"} {
		faults = append(faults, f(a, b, protocol, GossipPort), f(b, a, protocol, GossipPort))
	}
	return errors.Join(faults...)
}

// Heal ends every fault of the switch. Cables stay as they are.
func (l *Lab) Heal() error {
	l.faults.mu.Lock()
	defer l.faults.mu.Unlock()
	l.faults.set = nil
	return l.writeFaults()
}

// FreezeHost stops every process that the lab runs on a host; Thaw lets them go on. The host's kernel works on: it
// forwards, and answers for its own addresses.
func (l *Lab) FreezeHost(host string) error { return l.signalHost(host, unix.SIGSTOP) }

// ThawHost ends FreezeHost.
func (l *Lab) ThawHost(host string) error { return l.signalHost(host, unix.SIGCONT) }

// KillHost kills every process that the lab runs on a host, with SIGKILL. Its kernel works on; with Unplug it is as dead as
// a host without power.
func (l *Lab) KillHost(host string) error { return l.signalHost(host, unix.SIGKILL) }

func (l *Lab) signalHost(host string, sig unix.Signal) error {
	var faults []error
	for _, p := range l.Processes() {
		if p.Host.Hostname == host && p.Alive() {
			faults = append(faults, p.Signal(sig))
		}
	}
	return errors.Join(faults...)
}

// StopAPIServer kills the API server, as a crash does. etcd keeps its data.
func (l *Lab) StopAPIServer() error { return l.APIServer().Kill() }

// StartAPIServer starts it again and waits until it is ready.
func (l *Lab) StartAPIServer(ctx context.Context) error {
	if err := l.APIServer().start(); err != nil {
		return err
	}
	return l.waitAPIServer(ctx)
}

// FreezeAPIServer stops the API server in its tracks: connections stay open and nothing answers.
func (l *Lab) FreezeAPIServer() error { return l.APIServer().Freeze() }

// ThawAPIServer ends FreezeAPIServer.
func (l *Lab) ThawAPIServer() error { return l.APIServer().Thaw() }

// ports is the nftables set of a host's switch ports.
func (l *Lab) ports(host string) string {
	var quoted []string
	for _, nic := range l.Host(host).NICs() {
		quoted = append(quoted, fmt.Sprintf("%q", nic.Port))
	}
	return "{ " + strings.Join(quoted, ", ") + " }"
}

func (l *Lab) between(from, to string) string {
	return "iifname " + l.ports(from) + " oifname " + l.ports(to)
}

// setFault replaces the rules under a key; none ends the fault. What the kernel refuses is forgotten.
func (l *Lab) setFault(key string, rules ...string) error {
	f := &l.faults
	f.mu.Lock()
	defer f.mu.Unlock()
	before := slices.Clone(f.set)
	f.set = slices.DeleteFunc(f.set, func(x fault) bool { return x.key == key })
	for _, rule := range rules {
		f.set = append(f.set, fault{key, rule})
	}
	err := l.writeFaults()
	if err != nil {
		f.set = before
	}
	return err
}

// writeFaults gives the kernel the whole chain in one transaction.
func (l *Lab) writeFaults() error {
	var b strings.Builder
	b.WriteString("table bridge " + faultTable + "\ndelete table bridge " + faultTable + "\ntable bridge " + faultTable + " {\n")
	b.WriteString("  chain faults {\n    type filter hook forward priority 0; policy accept;\n")
	for _, fault := range l.faults.set {
		b.WriteString("    " + fault.rule + "\n")
	}
	b.WriteString("  }\n}\n")
	cmd := exec.Command("nft", "-f", "-")
	cmd.Stdin = strings.NewReader(b.String())
	if _, err := l.Host(switchHost).Output(cmd); err != nil {
		return fmt.Errorf("set faults on the switch: %w\n%s", err, b.String())
	}
	return nil
}
