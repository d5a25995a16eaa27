package scenario

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strconv"
	"strings"
)

// match compares the actual value with the expected value and fails if the values differ. An object must have the
// expected members and may have other members. A list must have the expected length. An expected null means that the
// member is absent. The parameter `where` names the value in the error.
func match(where string, expected, actual any) error {
	switch expected := expected.(type) {
	case map[string]any:
		members, ok := actual.(map[string]any)
		if !ok {
			return differenceError(where, expected, actual)
		}
		for key, member := range expected {
			if err := match(where+"."+key, member, members[key]); err != nil {
				return err
			}
		}
		return nil
	case []any:
		entries, ok := actual.([]any)
		if !ok || len(entries) != len(expected) {
			return differenceError(where, expected, actual)
		}
		for i, entry := range expected {
			if err := match(fmt.Sprintf("%s[%d]", where, i), entry, entries[i]); err != nil {
				return err
			}
		}
		return nil
	default:
		if !reflect.DeepEqual(expected, actual) {
			return differenceError(where, expected, actual)
		}
		return nil
	}
}

// differenceError returns an error that contains the expected value and the actual value.
func differenceError(where string, expected, actual any) error {
	return fmt.Errorf("the value of %s must be %s, but is %s: check the scenario's steps before this step", where, show(expected), show(actual))
}

func show(value any) string {
	text, err := json.Marshal(value)
	if err != nil {
		return fmt.Sprint(value)
	}
	return string(text)
}

// find returns the value at a path such as tasks.0.id. The path "." means the whole value. find fails if there is no
// value at the path.
func find(in any, path string) (any, error) {
	if path == "." {
		return in, nil
	}
	found := in
	for name := range strings.SplitSeq(path, ".") {
		switch within := found.(type) {
		case map[string]any:
			found = within[name]
		case []any:
			i, err := strconv.Atoi(name)
			if err != nil || i < 0 || i >= len(within) {
				return nil, noValueError(in, path)
			}
			found = within[i]
		default:
			found = nil
		}
		if found == nil {
			return nil, noValueError(in, path)
		}
	}
	return found, nil
}

func noValueError(in any, path string) error {
	return fmt.Errorf("the step's result %s has no value at the path %q: correct the path in `save`", show(in), path)
}
