package kind

import (
	"encoding/json"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/lanyard-lb/lanyard/e2etest/lab"
)

func TestHasCapability(t *testing.T) {
	for status, want := range map[string]bool{
		"Name:\tx\nCapBnd:\t000001ffffffffff\nCapAmb:\t0": true,
		"Name:\tx\nCapBnd:\t000001fffeffffff\nCapAmb:\t0": false,
		"Name:\tx\n": false,
	} {
		if got := hasCapability(status, capSysResource); got != want {
			t.Errorf("%q: got %v, want %v", status, got, want)
		}
	}
}

func TestShim(t *testing.T) {
	dir := t.TempDir()
	script, err := files.ReadFile("files/docker")
	if err != nil {
		t.Fatal(err)
	}
	shim, docker := filepath.Join(dir, "docker"), filepath.Join(dir, "real")
	if err := os.WriteFile(shim, script, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(docker, []byte("#!/bin/sh\nprintf '%s|' \"$@\"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name         string
		unprivileged bool
		args         []string
		want         string
	}{
		{"others pass", false, []string{"exec", "--privileged", "x", "a b", ""}, "exec|--privileged|x|a b||"},
		{"a node gets its address", false, []string{"run", "--hostname", "lanyard-worker2", "--privileged", "image"},
			"run|--hostname|lanyard-worker2|--ip|10.77.0.12|--ip6|fd77::12|--privileged|image|"},
		{"no node, no address", false, []string{"run", "--hostname", "lanyard-worker22", "image"}, "run|--hostname|lanyard-worker22|image|"},
		{"less than privileged", true, []string{"run", "--privileged", "image", "--x"},
			"run|--cap-add=ALL|--cap-drop=SYS_RESOURCE|--security-opt=systempaths=unconfined|--security-opt=seccomp=unconfined|" +
				"--device=/dev/kmsg|--device-cgroup-rule=a *:* rwm|image|--x|"},
		{"exec without the flag", true, []string{"exec", "--privileged", "-i", "x"}, "exec|-i|x|"},
		{"flags before the verb", true, []string{"--debug", "inspect", "x"}, "--debug|inspect|x|"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cmd := exec.Command(shim, tt.args...)
			cmd.Env = append(os.Environ(), "LANYARD_DOCKER="+docker, "LANYARD_ADDRESSES="+nodeAddresses())
			if tt.unprivileged {
				cmd.Env = append(cmd.Env, "LANYARD_UNPRIVILEGED=1")
			}
			out, err := cmd.CombinedOutput()
			if err != nil || string(out) != tt.want {
				t.Errorf("got %s (%v)\nwant %s", out, err, tt.want)
			}
		})
	}
}

func TestParseNodes(t *testing.T) {
	container := func(name, role, ip string) string {
		return `{"Name":"/` + name + `","State":{"Status":"running","Pid":7},"Config":{"Image":"i","Labels":{"io.x-k8s.kind.role":"` + role +
			`"}},"NetworkSettings":{"Networks":{"kind":{"IPAddress":"` + ip + `","GlobalIPv6Address":""}}}}`
	}
	nodes, err := parseNodes([]byte("[" + container("l-worker10", "worker", "10.77.0.20") + "," + container("l-worker", "worker", "") + "," +
		container("l-worker2", "worker", "10.77.0.12") + "," + container("l-control-plane", "control-plane", "10.77.0.2") + "]"))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, n := range nodes {
		names = append(names, n.Name)
	}
	if got, want := strings.Join(names, " "), "l-control-plane l-worker l-worker2 l-worker10"; got != want {
		t.Errorf("order: got %s, want %s", got, want)
	}
	want := Node{Name: "l-control-plane", ControlPlane: true, Status: "running", PID: 7, Image: "i", IPv4: netip.MustParseAddr("10.77.0.2")}
	if nodes[0] != want {
		t.Errorf("got %+v, want %+v", nodes[0], want)
	}
	if nodes[1].IPv4.IsValid() {
		t.Errorf("a node without an address has %s", nodes[1].IPv4)
	}
}

func TestPodNetwork(t *testing.T) {
	net := func(name, v4, v6, pods4, pods6 string) podNet {
		return podNet{name: name, address: []netip.Addr{netip.MustParseAddr(v4), netip.MustParseAddr(v6)},
			pods: []netip.Prefix{netip.MustParsePrefix(pods4), netip.MustParsePrefix(pods6)}}
	}
	a := net("a", "10.77.0.2", "fd77::2", "10.244.0.0/24", "fd00:10:244::/64")
	b := net("b", "10.77.0.11", "fd77::11", "10.244.1.0/24", "fd00:10:244:1::/64")
	all := []podNet{a, b}
	if got, want := a.routes(all), "route replace 10.244.1.0/24 via 10.77.0.11\nroute replace fd00:10:244:1::/64 via fd77::11\n"; got != want {
		t.Errorf("routes: got %q, want %q", got, want)
	}
	for _, rule := range []string{
		"oifname eth0 ip saddr 10.244.0.0/24 ip daddr != { 10.244.0.0/24, 10.244.1.0/24 } masquerade\n",
		"oifname eth0 ip6 saddr fd00:10:244::/64 ip6 daddr != { fd00:10:244::/64, fd00:10:244:1::/64 } masquerade\n",
	} {
		if !strings.Contains(a.masquerade(all), rule) {
			t.Errorf("no rule %q in\n%s", rule, a.masquerade(all))
		}
	}
	raw, err := a.cniConfig()
	if err != nil {
		t.Fatal(err)
	}
	var config struct {
		Plugins []struct {
			Type string
			IPAM struct{ Ranges [][]struct{ Subnet string } }
		}
	}
	if err := json.Unmarshal(raw, &config); err != nil {
		t.Fatal(err)
	}
	ranges := config.Plugins[0].IPAM.Ranges
	if config.Plugins[0].Type != "bridge" || len(ranges) != 2 || ranges[0][0].Subnet != "10.244.0.0/24" || ranges[1][0].Subnet != "fd00:10:244::/64" {
		t.Errorf("bridge of %s: %s", a.name, raw)
	}
}

func TestClusterConfig(t *testing.T) {
	type node struct{ Role, Image string }
	type config struct {
		Name       string
		Networking struct {
			KubeProxyMode     string
			DisableDefaultCNI bool
		}
		Nodes                []node
		KubeadmConfigPatches []string
	}
	for _, tt := range []struct {
		values configValues
		image  string
		own    bool
	}{
		{configValues{Options: Options{Proxy: lab.IPTables}, CgroupV1: true}, ownImage, true},
		{configValues{Options: Options{Proxy: lab.NFTables, NodeImage: "kindest/node:v1.2.3"}, AuditPolicy: "/a/policy"}, "kindest/node:v1.2.3", false},
	} {
		raw, err := clusterConfig(tt.values)
		if err != nil {
			t.Fatal(err)
		}
		var got config
		if err := yaml.Unmarshal(raw, &got); err != nil {
			t.Fatalf("%v in\n%s", err, raw)
		}
		want := []node{{"control-plane", tt.image}, {"worker", tt.image}, {"worker", tt.image}, {"worker", tt.image}}
		if got.Name != Name || !reflect.DeepEqual(got.Nodes, want) || got.Networking.DisableDefaultCNI != tt.own ||
			got.Networking.KubeProxyMode != string(tt.values.Proxy) {
			t.Errorf("got %+v from\n%s", got, raw)
		}
		kinds := map[string]map[string]any{}
		for _, patch := range got.KubeadmConfigPatches {
			var object map[string]any
			if err := yaml.UnmarshalStrict([]byte(patch), &object); err != nil {
				t.Fatalf("%v in\n%s", err, patch)
			}
			kinds[object["kind"].(string)] = object
		}
		if _, skips := kinds["InitConfiguration"]; skips != tt.own {
			t.Errorf("image %s: phases are skipped: %v", tt.image, skips)
		}
		if _, has := kinds["KubeletConfiguration"]["failCgroupV1"]; has != tt.values.CgroupV1 {
			t.Errorf("cgroup v1 %v: failCgroupV1 is there: %v", tt.values.CgroupV1, has)
		}
		if mounted := strings.Contains(string(raw), "hostPath: /a/policy"); mounted == tt.own {
			t.Errorf("image %s: the audit policy is mounted: %v", tt.image, mounted)
		}
	}
}

func TestFilesOf(t *testing.T) {
	got := filesOf("/.\n/lib\n/lib/x86_64-linux-gnu/libc.so.6\n/usr/lib/x86_64-linux-gnu/gconv/KOI8-R.so\n/usr/sbin/nft\n/etc/nftables.conf\n/usr/sbin/nft\n")
	want := []string{"usr/lib", "usr/lib/x86_64-linux-gnu/libc.so.6", "usr/sbin/nft"}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestContainerProcess(t *testing.T) {
	proc := t.TempDir()
	for pid, p := range map[string]struct{ cgroup, parent string }{
		"1":  {"/init", "0"},
		"20": {"/docker/n/kubepods/pod1/abc", "7"},
		"3":  {"/docker/n/kubepods/pod1/abc", "20"}, // a child with a lower number
		"7":  {"/docker/n/system.slice", "1"},
		"9":  {"/docker/n/kubepods/pod2/def", "7"},
	} {
		dir := filepath.Join(proc, pid)
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		for name, content := range map[string]string{"cgroup": "4:memory:" + p.cgroup + "\n", "status": "Name:\tx\nPPid:\t" + p.parent + "\n"} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	if pid, err := containerProcess(proc, "abc"); err != nil || pid != 20 {
		t.Errorf("got %d (%v), want 20", pid, err)
	}
	for _, id := range []string{"ghi", ""} {
		if pid, err := containerProcess(proc, id); err == nil {
			t.Errorf("container %q: got process %d, want an error", id, pid)
		}
	}
}

func TestProxyMode(t *testing.T) {
	for config, want := range map[string]lab.ProxyMode{
		"kind: KubeProxyConfiguration\nmode: nftables\n":    lab.NFTables,
		"mode: \"iptables\"\nnftables:\n  mode: nonsense\n": lab.IPTables,
		"kind: KubeProxyConfiguration\n":                    "",
	} {
		if got := proxyMode(config); got != want {
			t.Errorf("%q: got %q, want %q", config, got, want)
		}
	}
}

func TestStartTime(t *testing.T) {
	if startTime(os.Getpid()) == "" {
		t.Error("this process has no start time")
	}
	d := &daemon{PID: os.Getpid(), Started: "1"}
	if d.alive() {
		t.Error("a process with this PID but another start passes for the daemon")
	}
}
