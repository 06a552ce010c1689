package cli

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// recent is how many events are printed.
const recent = 10

// explanation is what explain prints.
type explanation struct {
	Namespace  string      `json:"namespace"`
	Name       string      `json:"name"`
	Type       string      `json:"type"`
	Class      string      `json:"class,omitempty"`
	Addresses  []string    `json:"addresses"`
	Conditions []condition `json:"conditions"`
	Events     []event     `json:"events"`
}

type condition struct {
	Type    string    `json:"type"`
	Status  string    `json:"status"`
	Reason  string    `json:"reason"`
	Message string    `json:"message"`
	Since   time.Time `json:"since"`
	// Outdated says that the Service has changed since.
	Outdated bool `json:"outdated,omitempty"`
}

type event struct {
	Last    time.Time `json:"last"`
	Count   int32     `json:"count"`
	Type    string    `json:"type"`
	Reason  string    `json:"reason"`
	From    string    `json:"from"`
	Message string    `json:"message"`
}

// explain prints a Service's addresses, Lanyard's conditions on it, and its latest events.
func (c *command) explain(ctx context.Context, name string) error {
	var s corev1.Service
	if err := c.api.Get(ctx, client.ObjectKey{Namespace: c.namespace, Name: name}, &s); err != nil {
		return fmt.Errorf("get Service %s/%s: %w", c.namespace, name, err)
	}
	var events corev1.EventList
	about := client.MatchingFields{"involvedObject.kind": "Service", "involvedObject.name": name, "involvedObject.uid": string(s.UID)}
	if err := c.api.List(ctx, &events, client.InNamespace(c.namespace), about); err != nil {
		return fmt.Errorf("list the events of Service %s/%s: %w", c.namespace, name, err)
	}
	e := explained(&s, events.Items)
	if c.output == "json" {
		return c.json(e)
	}
	return c.print(e)
}

func explained(s *corev1.Service, events []corev1.Event) explanation {
	e := explanation{Namespace: s.Namespace, Name: s.Name, Type: string(s.Spec.Type), Addresses: []string{}, Conditions: []condition{}, Events: []event{}}
	if s.Spec.LoadBalancerClass != nil {
		e.Class = *s.Spec.LoadBalancerClass
	}
	for _, i := range s.Status.LoadBalancer.Ingress {
		e.Addresses = append(e.Addresses, cmp.Or(i.IP, i.Hostname))
	}
	for _, o := range s.Status.Conditions {
		if strings.HasPrefix(o.Type, "lanyard.dev/") {
			e.Conditions = append(e.Conditions, condition{Type: o.Type, Status: string(o.Status), Reason: o.Reason, Message: o.Message,
				Since: o.LastTransitionTime.UTC(), Outdated: o.ObservedGeneration != 0 && o.ObservedGeneration < s.Generation})
		}
	}
	for i := range events {
		e.Events = append(e.Events, newEvent(&events[i]))
	}
	slices.SortStableFunc(e.Events, func(a, b event) int { return a.Last.Compare(b.Last) })
	e.Events = e.Events[max(0, len(e.Events)-recent):]
	return e
}

// newEvent reads an event of either API: the older one counts by itself, the newer one in a series.
func newEvent(o *corev1.Event) event {
	e := event{Last: o.LastTimestamp.Time, Count: max(o.Count, 1), Type: o.Type, Reason: o.Reason,
		From: cmp.Or(o.ReportingController, o.Source.Component), Message: o.Message}
	if e.Last.IsZero() {
		e.Last = o.EventTime.Time
	}
	if o.Series != nil {
		e.Last, e.Count = o.Series.LastObservedTime.Time, o.Series.Count
	}
	e.Last = e.Last.UTC()
	return e
}

func (c *command) print(e explanation) error {
	kind := e.Type
	if e.Class != "" {
		kind += ", class " + e.Class
	}
	fmt.Fprintf(c.out, "Service    %s/%s (%s)\n", e.Namespace, e.Name, kind)
	fmt.Fprintf(c.out, "Addresses  %s\n\n", cmp.Or(strings.Join(e.Addresses, ", "), "none"))
	if len(e.Conditions) == 0 {
		fmt.Fprintf(c.out, "Lanyard has not said anything on this Service%s.\n", why(e))
	}
	rows := [][]string{{"CONDITION", "STATUS", "REASON", "SINCE", "MESSAGE"}}
	for _, o := range e.Conditions {
		if o.Outdated {
			o.Message = "(before the Service changed) " + o.Message
		}
		rows = append(rows, []string{o.Type, o.Status, o.Reason, moment(o.Since), o.Message})
	}
	if err := c.table(rows); err != nil || len(e.Events) == 0 {
		return err
	}
	fmt.Fprintln(c.out)
	rows = [][]string{{"LAST SEEN", "COUNT", "TYPE", "REASON", "FROM", "EVENT"}}
	for _, v := range e.Events {
		rows = append(rows, []string{moment(v.Last), fmt.Sprint(v.Count), v.Type, v.Reason, cmp.Or(v.From, "-"), v.Message})
	}
	return c.table(rows)
}

func why(e explanation) string {
	switch {
	case e.Type != string(corev1.ServiceTypeLoadBalancer):
		return ": it is not of type LoadBalancer"
	case e.Class != "":
		return ": it may be of a class that Lanyard does not serve"
	}
	return ": is the controller running?"
}
