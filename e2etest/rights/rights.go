package rights

import (
	"bufio"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"

	rbacv1 "k8s.io/api/rbac/v1"
)

// Right is one verb on one resource. The namespace is that of the Role that grants it, or empty for what a ClusterRole
// grants everywhere.
type Right struct {
	Group, Resource, Verb string // Resource with its subresource: services/status
	Namespace             string
	Names                 string // the only names of objects that it holds for, separated by commas; empty: all
}

// Use is one kind of request that was made.
type Use struct {
	Group, Resource, Verb string
	Namespace, Name       string
	Allowed               bool
}

// Row is a right and how often it was used; or, with Refused, what was asked for and refused.
type Row struct {
	Right
	Used    int
	Refused bool
}

// Granted lists the rights that rules give; namespace is that of their Role, empty for a ClusterRole bound everywhere. It is an
// error if a rule has wildcards or URLs: which rights those give, nobody can list.
func Granted(rules []rbacv1.PolicyRule, namespace string) ([]Right, error) {
	var all []Right
	for i, rule := range rules {
		if len(rule.NonResourceURLs) > 0 {
			return nil, fmt.Errorf("rule %d gives URLs: %v", i, rule.NonResourceURLs)
		}
		for _, group := range rule.APIGroups {
			for _, resource := range rule.Resources {
				for _, verb := range rule.Verbs {
					if strings.Contains(group+resource+verb, "*") {
						return nil, fmt.Errorf("rule %d has a wildcard: %s %s/%s", i, verb, group, resource)
					}
					all = append(all, Right{group, resource, verb, namespace, strings.Join(rule.ResourceNames, ",")})
				}
			}
		}
	}
	return all, nil
}

// covers reports whether a right allows a use.
func (r Right) covers(u Use) bool {
	return r.Group == u.Group && r.Resource == u.Resource && r.Verb == u.Verb && (r.Namespace == "" || r.Namespace == u.Namespace) &&
		(r.Names == "" || slices.Contains(strings.Split(r.Names, ","), u.Name))
}

// event is what we read of an entry of an audit log (audit.k8s.io/v1, Event).
type event struct {
	Stage          string                                                             `json:"stage"`
	Verb           string                                                             `json:"verb"`
	User           struct{ Username string }                                          `json:"user"`
	ObjectRef      *struct{ APIGroup, Resource, Subresource, Namespace, Name string } `json:"objectRef"`
	ResponseStatus struct{ Code int }                                                 `json:"responseStatus"`
}

// Used counts the requests of a user in an audit log, a JSON object per line. Requests for URLs that are no objects, such
// as discovery, which every account may make, are left out.
func Used(log io.Reader, user string) (map[Use]int, error) {
	used := map[Use]int{}
	lines := bufio.NewScanner(log)
	lines.Buffer(nil, 16<<20)
	for n := 1; lines.Scan(); n++ {
		if !strings.Contains(lines.Text(), user) {
			continue
		}
		var e event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			return nil, fmt.Errorf("line %d of the audit log: %w", n, err)
		}
		if e.User.Username != user || e.ObjectRef == nil || e.ObjectRef.Resource == "" {
			continue
		}
		switch {
		case e.Stage == "ResponseComplete":
		case e.Stage == "ResponseStarted" && e.Verb == "watch": // may still be going on
		default:
			continue
		}
		resource := e.ObjectRef.Resource
		if e.ObjectRef.Subresource != "" {
			resource += "/" + e.ObjectRef.Subresource
		}
		used[Use{e.ObjectRef.APIGroup, resource, e.Verb, e.ObjectRef.Namespace, e.ObjectRef.Name, e.ResponseStatus.Code != 403}]++
	}
	return used, lines.Err()
}

// Compare puts rights and uses together, one row per right, in order, then one per kind of request that was refused.
func Compare(granted []Right, used map[Use]int) []Row {
	rows := make([]Row, 0, len(granted))
	for _, r := range granted {
		row := Row{Right: r}
		for u, n := range used {
			if u.Allowed && r.covers(u) {
				row.Used += n
			}
		}
		rows = append(rows, row)
	}
	refused := map[Right]int{}
	for u, n := range used {
		if !u.Allowed {
			refused[Right{u.Group, u.Resource, u.Verb, u.Namespace, ""}] += n
		}
	}
	byRight := func(a, b Right) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Group, b.Group), cmp.Compare(a.Resource, b.Resource), cmp.Compare(a.Verb, b.Verb))
	}
	slices.SortStableFunc(rows, func(a, b Row) int { return byRight(a.Right, b.Right) })
	for _, r := range slices.SortedFunc(maps.Keys(refused), byRight) {
		rows = append(rows, Row{Right: r, Used: refused[r], Refused: true})
	}
	return rows
}

// Table is the rows as text, for a person to read.
func Table(rows []Row) string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "WHERE\tGROUP\tRESOURCE\tVERB\tONLY\tUSED")
	for _, r := range rows {
		count := fmt.Sprint(r.Used)
		switch {
		case r.Refused:
			count += " REFUSED"
		case r.Used == 0:
			count = "never"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", cmp.Or(r.Namespace, "everywhere"), cmp.Or(r.Group, "core"), r.Resource, r.Verb, r.Names, count)
	}
	_ = w.Flush()
	return b.String()
}
