package placement

import (
	"maps"
	"net/netip"
	"path"
	"slices"
	"strings"

	"github.com/cespare/xxhash/v2"
)

// Layer2 elects one owner for each address: per address and never per Service, so Services that share one
// have one owner. Among the eligible nodes the highest rendezvous hash of node and address wins, so a node
// that leaves moves only what it owned. Verdicts are sorted by address.
func Layer2(f Facts) []Verdict {
	p := layer2{Facts: f, candidates: map[string][]candidate{}, interfaces: map[string][]string{}}
	sharers := map[netip.Addr][]Service{}
	for _, s := range f.Services {
		for _, ip := range s.IPs {
			sharers[ip] = append(sharers[ip], s)
		}
	}
	verdicts := make([]Verdict, 0, len(sharers))
	for _, ip := range slices.SortedFunc(maps.Keys(sharers), netip.Addr.Compare) {
		verdicts = append(verdicts, p.verdict(ip, sharers[ip]))
	}
	return verdicts
}

// layer2 is one pass. Addresses under the same advertisements share their candidates and interfaces.
type layer2 struct {
	Facts
	candidates map[string][]candidate
	interfaces map[string][]string
}

type candidate struct {
	name string
	hash uint64
}

func (p *layer2) verdict(ip netip.Addr, services []Service) Verdict {
	v := Verdict{IP: ip}
	for _, s := range services {
		v.Services = append(v.Services, s.Name)
	}
	slices.Sort(v.Services)
	ads, key := p.covering(ip)
	if len(ads) == 0 {
		v.Reason = NoAdvertisement
		return v
	}
	eligible := p.eligible(ads, key)
	if len(eligible) == 0 {
		v.Reason = NoEligibleNode
		return v
	}
	serving := slices.DeleteFunc(slices.Clone(eligible), func(c candidate) bool {
		return slices.ContainsFunc(services, func(s Service) bool { return !s.servedOn(c.name) })
	})
	v.Reason = Announced
	if len(serving) == 0 {
		// Nobody can serve: kube-proxy rejects at the owner, which is what clients should see.
		v.Reason, serving = NoEndpoint, eligible
	}
	v.Owner = elect(ip, serving)
	if v.Owner == p.Self {
		v.Interfaces = p.namesOf(ads, key)
		if len(v.Interfaces) == 0 {
			v.Reason = NoInterface
		}
	}
	return v
}

// covering returns the advertisements that an address falls under, and a key that names their set.
func (p *layer2) covering(ip netip.Addr) ([]Advertisement, string) {
	pool := ""
	for _, candidate := range p.Pools {
		for _, r := range candidate.Ranges {
			if r.Contains(ip) {
				pool = candidate.Name
			}
		}
	}
	var ads []Advertisement
	var key strings.Builder
	for _, ad := range p.Advertisements {
		if pool == "" || ad.Pools[pool] {
			ads = append(ads, ad)
			key.WriteString(ad.Name + "\n")
		}
	}
	return ads, key.String()
}

// eligible returns the live nodes that may announce under one of the advertisements, in the order of Members.
func (p *layer2) eligible(ads []Advertisement, key string) []candidate {
	if known, ok := p.candidates[key]; ok {
		return known
	}
	var eligible []candidate
	for _, name := range p.Members {
		node, exists := p.Nodes[name]
		allowed := slices.ContainsFunc(ads, func(ad Advertisement) bool { return ad.Nodes[name] })
		if exists && node.Excluded == "" && allowed {
			eligible = append(eligible, candidate{name, xxhash.Sum64String(name)})
		}
	}
	p.candidates[key] = eligible
	return eligible
}

// namesOf returns the interfaces of this node that the advertisements allow, in the order of Interfaces.
func (p *layer2) namesOf(ads []Advertisement, key string) []string {
	if known, ok := p.interfaces[key]; ok {
		return known
	}
	var names []string
	for _, i := range p.Interfaces {
		allowed := slices.ContainsFunc(ads, func(ad Advertisement) bool { return ad.Nodes[p.Self] && ad.allows(i.Name) })
		if i.Suitable() && allowed {
			names = append(names, i.Name)
		}
	}
	p.interfaces[key] = names
	return names
}

func (a Advertisement) allows(name string) bool {
	return len(a.Interfaces) == 0 || slices.ContainsFunc(a.Interfaces, func(pattern string) bool {
		matched, err := path.Match(pattern, name)
		return err == nil && matched
	})
}

// elect returns the candidate with the highest hash; should two be equal, the lower name.
func elect(ip netip.Addr, candidates []candidate) string {
	bytes := ip.As16()
	address := xxhash.Sum64(bytes[:])
	var winner candidate
	var best uint64
	for _, c := range candidates {
		weight := mix(c.hash ^ address)
		if winner.name == "" || weight > best || weight == best && c.name < winner.name {
			winner, best = c, weight
		}
	}
	return winner.name
}

// mix spreads every bit of its argument over the result (the finalizer of SplitMix64), so that node and
// address hashes can be combined by exclusive or.
func mix(x uint64) uint64 {
	x ^= x >> 30
	x *= 0xbf58476d1ce4e5b9
	x ^= x >> 27
	x *= 0x94d049bb133111eb
	return x ^ x>>31
}
