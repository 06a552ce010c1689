package layer2

import (
	"context"
	"io"
	"net"
	"os"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/lanyard-lb/lanyard/internal/announce"
	"github.com/lanyard-lb/lanyard/internal/netnstest"
	"github.com/lanyard-lb/lanyard/internal/placement"
)

// vethWorld is a node with eth0 and eth1, each joined by a cable to a namespace of its own.
type vethWorld struct {
	lans
	node       *netnstest.NS
	interfaces []placement.Interface
	peers      map[string]*netnstest.NS
}

func newVethWorld(t *testing.T) *vethWorld {
	w := &vethWorld{
		lans:  lans{t: t, stations: make(map[string]*station)},
		node:  netnstest.New(t),
		peers: make(map[string]*netnstest.NS),
	}
	for _, name := range []string{"eth0", "eth1"} {
		w.peers[name] = netnstest.New(t)
		w.plug(name)
	}
	return w
}

// plug lays a new cable between the node's interface and its peer.
func (w *vethWorld) plug(name string) {
	netnstest.Veth(w.t, w.node, name, w.peers[name], "far")
	w.interfaces = append(w.interfaces, describe(w.t, w.node, name))
	w.stations[name] = listenAt(w.t, w.peers[name], "far")
}

func (w *vethWorld) Announcer() announce.Announcer { return inside{w.t, w.node, New(Config{})} }

func (w *vethWorld) Interfaces() []placement.Interface { return slices.Clone(w.interfaces) }

// Break pulls the interface out; Repair puts in another of that name.
func (w *vethWorld) Break(name string) {
	w.node.Delete(w.t, name)
	delete(w.stations, name)
}

func (w *vethWorld) Repair(name string) {
	w.interfaces = slices.DeleteFunc(w.interfaces, func(i placement.Interface) bool { return i.Name == name })
	w.plug(name)
}

// inside runs an announcer on a node: it opens its sockets there.
type inside struct {
	t  testing.TB
	ns *netnstest.NS
	announce.Announcer
}

func (i inside) Set(w announce.Want) (err error) {
	i.ns.Do(i.t, func() { err = i.Announcer.Set(w) })
	return err
}

func (i inside) Run(ctx context.Context) (err error) {
	i.ns.Do(i.t, func() { err = i.Announcer.Run(ctx) })
	return err
}

// describe an interface of the namespace as link would, once it is up.
func describe(t testing.TB, ns *netnstest.NS, name string) (i placement.Interface) {
	t.Helper()
	ns.Do(t, func() {
		ifi, err := net.InterfaceByName(name)
		check(t, err)
		i = placement.Interface{
			Name: name, Index: ifi.Index, MAC: placement.MAC(ifi.HardwareAddr),
			Up: true, Carrier: true, Ether: true,
		}
	})
	return i
}

// listenAt puts a station beside the kernel on an interface.
func listenAt(t testing.TB, ns *netnstest.NS, name string) *station {
	t.Helper()
	wire := tap(t, ns, name)
	return newStation(t, describe(t, ns, name).MAC, "10.77.0.1", "fd77::1", wire)
}

// tap opens a socket for all frames on an interface, without a filter.
func tap(t testing.TB, ns *netnstest.NS, name string) io.ReadWriteCloser {
	t.Helper()
	ifi := describe(t, ns, name)
	var wire *os.File
	ns.Do(t, func() {
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		check(t, err)
		wire = os.NewFile(uintptr(fd), "tap of "+name)
		check(t, unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: bigEndian(unix.ETH_P_ALL), Ifindex: ifi.Index}))
	})
	return wire
}

func bigEndian(v uint16) uint16 { return v<<8 | v>>8 }
