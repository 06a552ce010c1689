package cli

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/lanyard-lb/lanyard/api/v1beta1"
)

const (
	// home is where Lanyard lives unless --namespace says otherwise.
	home           = "lanyard-system"
	controllerName = "lanyard-controller"
	speakerName    = "lanyard-speaker"

	// recheckPace is how often check looks again, with --wait.
	recheckPace = time.Second
	// named is how many of many are named.
	named = 3
)

// The grades of a finding.
const (
	fine    = "ok"
	warning = "warning" // worth a look; users may want it so
	failure = "failed"
)

// finding is what one look at an installation has shown.
type finding struct {
	Check  string `json:"check"`
	Grade  string `json:"grade"`
	Detail string `json:"detail"`
}

// check looks whether the installation in the namespace is healthy. It fails when it is not; warnings are printed only.
func (c *command) check(ctx context.Context, _ string) error {
	deadline := time.Now().Add(c.wait)
	for {
		findings := c.look(ctx)
		failed := 0
		for _, f := range findings {
			if f.Grade == failure {
				failed++
			}
		}
		if failed > 0 && time.Now().Before(deadline) {
			select {
			case <-time.After(recheckPace):
				continue
			case <-ctx.Done():
			}
		}
		if err := c.printFindings(findings); err != nil {
			return err
		}
		if failed > 0 {
			return fmt.Errorf("%d of %d checks of the installation in namespace %s failed", failed, len(findings), c.namespace)
		}
		return nil
	}
}

func (c *command) printFindings(findings []finding) error {
	if c.output == "json" {
		return c.json(findings)
	}
	signs := map[string]string{fine: "✔", warning: "!", failure: "✘"}
	for _, f := range findings {
		fmt.Fprintf(c.out, "%s %s: %s\n", signs[f.Grade], f.Check, strings.Join(strings.Fields(f.Detail), " "))
	}
	return nil
}

// look does all checks, in the order in which one depends on the other.
func (c *command) look(ctx context.Context) (all []finding) {
	for _, one := range []struct {
		name string
		do   func(context.Context) (grade, detail string, err error)
	}{
		{"CRDs", c.checkCRDs},
		{"controller", c.checkController},
		{"leader", c.checkLeader},
		{"speakers", c.checkSpeakers},
		{"pools", c.checkPools},
		{"advertisements", c.checkAdvertisements},
		{"Services", c.checkServices},
	} {
		grade, detail, err := one.do(ctx)
		if err != nil {
			grade, detail = failure, err.Error()
		}
		all = append(all, finding{one.name, grade, detail})
	}
	return all
}

func (c *command) checkCRDs(ctx context.Context) (grade, detail string, _ error) {
	all, err := definitions()
	if err != nil {
		return "", "", err
	}
	var wrong []string
	for _, wanted := range all {
		have := &unstructured.Unstructured{}
		have.SetGroupVersionKind(crdKind)
		name := wanted.GetName()
		err := c.api.Get(ctx, client.ObjectKeyFromObject(wanted), have)
		switch {
		case apierrors.IsNotFound(err):
			wrong = append(wrong, name+" is missing")
		case err != nil:
			return "", "", fmt.Errorf("read the CRD %s: %w", name, err)
		case !established(have):
			wrong = append(wrong, name+" is not established")
		case !within(wanted.Object["spec"], have.Object["spec"]):
			wrong = append(wrong, name+" is of another version")
		}
	}
	if len(wrong) > 0 {
		return failure, someOf(wrong) + `; "kubectl lanyard crds --apply" puts those of this program in force`, nil
	}
	return fine, fmt.Sprintf("all %d are there and current", len(all)), nil
}

func established(crd *unstructured.Unstructured) bool {
	conditions, _, _ := unstructured.NestedSlice(crd.Object, "status", "conditions")
	return slices.ContainsFunc(conditions, func(one any) bool {
		condition, ok := one.(map[string]any)
		return ok && condition["type"] == "Established" && condition["status"] == "True"
	})
}

func (c *command) checkController(ctx context.Context) (grade, detail string, _ error) {
	var d appsv1.Deployment
	if err := c.api.Get(ctx, client.ObjectKey{Namespace: c.namespace, Name: controllerName}, &d); err != nil {
		return "", "", fmt.Errorf("read the Deployment %s/%s: %w", c.namespace, controllerName, err)
	}
	wanted := int32(1)
	if d.Spec.Replicas != nil {
		wanted = *d.Spec.Replicas
	}
	detail = fmt.Sprintf("%d of %d pods available", d.Status.AvailableReplicas, wanted)
	switch {
	case d.Status.AvailableReplicas == 0:
		why, err := c.whyNot(ctx, d.Spec.Selector)
		return failure, detail + why, err
	case d.Status.AvailableReplicas < wanted || d.Status.UpdatedReplicas < wanted || d.Status.ObservedGeneration < d.Generation:
		why, err := c.whyNot(ctx, d.Spec.Selector)
		return warning, fmt.Sprintf("%s, %d of the present version%s", detail, d.Status.UpdatedReplicas, why), err
	}
	return fine, detail, nil
}

// checkLeader looks for a lease of the controller that somebody holds now.
func (c *command) checkLeader(ctx context.Context) (grade, detail string, _ error) {
	var leases coordinationv1.LeaseList
	if err := c.api.List(ctx, &leases, client.InNamespace(c.namespace)); err != nil {
		return "", "", fmt.Errorf("list the leases in namespace %s: %w", c.namespace, err)
	}
	stale := ""
	for _, l := range leases.Items {
		if l.Name != controllerName && !strings.HasPrefix(l.Name, controllerName+"-") {
			continue
		}
		if l.Spec.HolderIdentity == nil || *l.Spec.HolderIdentity == "" || l.Spec.RenewTime == nil || l.Spec.LeaseDurationSeconds == nil {
			stale = fmt.Sprintf("nobody holds the lease %s", l.Name)
			continue
		}
		age := time.Since(l.Spec.RenewTime.Time).Round(time.Second)
		if age < 2*time.Duration(*l.Spec.LeaseDurationSeconds)*time.Second { // clocks differ
			return fine, fmt.Sprintf("%s holds the lease %s", *l.Spec.HolderIdentity, l.Name), nil
		}
		stale = fmt.Sprintf("the lease %s of %s was renewed %s ago", l.Name, *l.Spec.HolderIdentity, age)
	}
	return failure, cmp.Or(stale, "there is no lease "+controllerName) + ": no controller assigns addresses", nil
}

func (c *command) checkSpeakers(ctx context.Context) (grade, detail string, _ error) {
	var d appsv1.DaemonSet
	if err := c.api.Get(ctx, client.ObjectKey{Namespace: c.namespace, Name: speakerName}, &d); err != nil {
		return "", "", fmt.Errorf("read the DaemonSet %s/%s: %w", c.namespace, speakerName, err)
	}
	s := d.Status
	detail = fmt.Sprintf("ready on %d of %d nodes", s.NumberReady, s.DesiredNumberScheduled)
	switch {
	case s.NumberReady == 0:
		why, err := c.whyNot(ctx, d.Spec.Selector)
		return failure, detail + why, err
	case s.NumberReady < s.DesiredNumberScheduled:
		why, err := c.whyNot(ctx, d.Spec.Selector)
		return failure, detail + why, err
	case s.UpdatedNumberScheduled < s.DesiredNumberScheduled || s.ObservedGeneration < d.Generation:
		return warning, fmt.Sprintf("%s, %d of the present version", detail, s.UpdatedNumberScheduled), nil
	}
	return fine, detail, nil
}

// whyNot says of the pods that a selector chooses, and that are not ready, why.
func (c *command) whyNot(ctx context.Context, selector *metav1.LabelSelector) (string, error) {
	chosen, err := metav1.LabelSelectorAsSelector(selector)
	if err != nil {
		return "", err
	}
	var pods corev1.PodList
	if err := c.api.List(ctx, &pods, client.InNamespace(c.namespace), client.MatchingLabelsSelector{Selector: chosen}); err != nil {
		return "", fmt.Errorf("list the pods in namespace %s: %w", c.namespace, err)
	}
	var why []string
	for _, p := range pods.Items {
		if reason := unready(&p); reason != "" {
			why = append(why, fmt.Sprintf("%s on %s: %s", p.Name, cmp.Or(p.Spec.NodeName, "no node"), reason))
		}
	}
	if len(why) == 0 {
		return "", nil
	}
	return "; " + someOf(why), nil
}

// unready says why a pod is not ready, or "".
func unready(p *corev1.Pod) string {
	for _, s := range p.Status.ContainerStatuses {
		if w := s.State.Waiting; w != nil {
			return strings.TrimSpace(w.Reason + " " + w.Message)
		}
	}
	for _, kind := range []corev1.PodConditionType{corev1.PodScheduled, corev1.PodReady} {
		for _, condition := range p.Status.Conditions {
			if condition.Type == kind && condition.Status != corev1.ConditionTrue {
				return strings.TrimSpace(condition.Reason + " " + condition.Message)
			}
		}
	}
	return ""
}

func (c *command) checkPools(ctx context.Context) (grade, detail string, _ error) {
	var pools v1beta1.IPAddressPoolList
	if err := c.api.List(ctx, &pools); err != nil {
		return "", "", fmt.Errorf("list the pools: %w", err)
	}
	if len(pools.Items) == 0 {
		return warning, "there is no IPAddressPool: Services wait until there is one", nil
	}
	var wrong, strangers []string
	for _, p := range pools.Items {
		if why := notInForce(p.Status.Conditions, p.Generation); why != "" {
			wrong = append(wrong, p.Name+": "+why)
		}
		for _, q := range p.Status.Quarantined {
			strangers = append(strangers, fmt.Sprintf("%s in %s", q.Address, p.Name))
		}
	}
	switch {
	case len(wrong) > 0:
		return failure, fmt.Sprintf("%d of %d not in force: %s", len(wrong), len(pools.Items), someOf(wrong)), nil
	case len(strangers) > 0:
		return warning, "a stranger on the LAN uses " + someOf(strangers), nil
	}
	return fine, fmt.Sprintf("all %d in force", len(pools.Items)), nil
}

func (c *command) checkAdvertisements(ctx context.Context) (grade, detail string, _ error) {
	var ads v1beta1.L2AdvertisementList
	if err := c.api.List(ctx, &ads); err != nil {
		return "", "", fmt.Errorf("list the advertisements: %w", err)
	}
	if len(ads.Items) == 0 {
		return warning, "there is no L2Advertisement: addresses are assigned and not announced", nil
	}
	var wrong []string
	for _, a := range ads.Items {
		if why := notInForce(a.Status.Conditions, a.Generation); why != "" {
			wrong = append(wrong, a.Name+": "+why)
		}
	}
	if len(wrong) > 0 {
		return failure, fmt.Sprintf("%d of %d not in force: %s", len(wrong), len(ads.Items), someOf(wrong)), nil
	}
	return fine, fmt.Sprintf("all %d in force", len(ads.Items)), nil
}

// notInForce says why an object of ours is not in force as it is written now, or "".
func notInForce(conditions []metav1.Condition, generation int64) string {
	ready := meta.FindStatusCondition(conditions, v1beta1.ConditionReady)
	switch {
	case ready == nil:
		return "no controller has looked at it"
	case ready.ObservedGeneration < generation:
		return "no controller has looked at its latest change"
	case ready.Status != metav1.ConditionTrue:
		return ready.Reason + " " + ready.Message
	}
	return ""
}

// checkServices counts the Services that have asked for addresses: those that wait, or that nobody announces, are
// worth a look, but may be as their owners want them.
func (c *command) checkServices(ctx context.Context) (grade, detail string, _ error) {
	var services corev1.ServiceList
	if err := c.api.List(ctx, &services); err != nil {
		return "", "", fmt.Errorf("list the Services: %w", err)
	}
	ours, waiting := 0, []string{}
	for _, s := range services.Items {
		assigned := meta.FindStatusCondition(s.Status.Conditions, v1beta1.ConditionIPAssigned)
		if s.Spec.Type != corev1.ServiceTypeLoadBalancer || assigned == nil {
			continue // not of ours, or not looked at
		}
		ours++
		announced := meta.FindStatusCondition(s.Status.Conditions, v1beta1.ConditionAnnounced)
		for _, condition := range []*metav1.Condition{assigned, announced} {
			if condition != nil && condition.Status == metav1.ConditionFalse {
				waiting = append(waiting, fmt.Sprintf("%s/%s %s", s.Namespace, s.Name, condition.Reason))
				break
			}
		}
	}
	if len(waiting) > 0 {
		return warning, fmt.Sprintf("%d of %d wait or are not announced: %s", len(waiting), ours, someOf(waiting)), nil
	}
	return fine, fmt.Sprintf("%d, and none waits", ours), nil
}

// someOf names the first of a list, and how many more there are.
func someOf(list []string) string {
	if len(list) <= named {
		return strings.Join(list, "; ")
	}
	return fmt.Sprintf("%s; and %d more", strings.Join(list[:named], "; "), len(list)-named)
}
