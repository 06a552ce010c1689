package main

import (
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
)

// differences compares two lists of objects, object by object and field by field. The order of objects says nothing, that
// of lists within them does.
func differences(nameA string, a []object, nameB string, b []object) error {
	byID := func(list []object) map[string]object {
		m := map[string]object{}
		for _, o := range list {
			m[id(o)] = o
		}
		return m
	}
	inA, inB := byID(a), byID(b)
	var errs []error
	if len(inA) != len(a) || len(inB) != len(b) {
		errs = append(errs, errors.New("an object is there twice"))
	}
	for _, name := range union(inA, inB) {
		switch {
		case inA[name] == nil:
			errs = append(errs, fmt.Errorf("%s: only %s has it", name, nameB))
		case inB[name] == nil:
			errs = append(errs, fmt.Errorf("%s: only %s has it", name, nameA))
		default:
			for _, d := range differ("", inA[name], inB[name]) {
				errs = append(errs, fmt.Errorf("%s: %s is %s in %s, %s in %s", name, d.path, d.a, nameA, d.b, nameB))
			}
		}
	}
	return errors.Join(errs...)
}

// difference is a path that two objects differ at.
type difference struct{ path, a, b string }

func differ(path string, a, b any) (all []difference) {
	mapA, okA := a.(object)
	mapB, okB := b.(object)
	if okA && okB {
		for _, key := range union(mapA, mapB) {
			valueA, thereA := mapA[key]
			valueB, thereB := mapB[key]
			if thereA && thereB {
				all = append(all, differ(path+"."+key, valueA, valueB)...)
				continue
			}
			all = append(all, difference{path + "." + key, shown(valueA, thereA), shown(valueB, thereB)})
		}
		return all
	}
	listA, okA := a.([]any)
	listB, okB := b.([]any)
	if okA && okB && len(listA) == len(listB) {
		for i := range listA {
			all = append(all, differ(fmt.Sprintf("%s[%d]", path, i), listA[i], listB[i])...)
		}
		return all
	}
	if textA, textB, ok := texts(a, b); ok && textA != textB {
		return append(all, excerpts(path, textA, textB))
	}
	if !reflect.DeepEqual(a, b) {
		all = append(all, difference{path, shown(a, true), shown(b, true)})
	}
	return all
}

// excerpt is how much of a long text is shown.
const excerpt = 60

func texts(a, b any) (textA, textB string, ok bool) {
	textA, okA := a.(string)
	textB, okB := b.(string)
	return textA, textB, okA && okB
}

// excerpts shows of long texts what is about the first byte that differs.
func excerpts(path, a, b string) difference {
	if len(a) <= 2*excerpt && len(b) <= 2*excerpt {
		return difference{path, shown(a, true), shown(b, true)}
	}
	same := 0
	for same < len(a) && same < len(b) && a[same] == b[same] {
		same++
	}
	cut := func(s string) string {
		return fmt.Sprintf("...%q...", s[max(0, same-excerpt):min(len(s), same+excerpt)])
	}
	return difference{fmt.Sprintf("%s, at byte %d,", path, same), cut(a), cut(b)}
}

func shown(v any, there bool) string {
	if !there {
		return "absent"
	}
	if s, ok := v.(string); ok {
		return fmt.Sprintf("%q", s)
	}
	return fmt.Sprint(v)
}

func union[V any](a, b map[string]V) []string {
	all := maps.Clone(a)
	if all == nil {
		all = map[string]V{}
	}
	maps.Copy(all, b)
	return slices.Sorted(maps.Keys(all))
}
