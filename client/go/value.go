package runhub

import (
	"encoding/json"
	"fmt"

	"google.golang.org/protobuf/types/known/structpb"
)

// Value converts a Go value to a field that holds any JSON, such as a payload, a result or a progress. Value accepts
// every value that encoding/json can encode, such as maps, slices and structs. Value fails if encoding/json can't
// encode the value.
func Value(of any) (*structpb.Value, error) {
	text, err := json.Marshal(of)
	if err != nil {
		return nil, err
	}
	value := new(structpb.Value)
	return value, value.UnmarshalJSON(text)
}

// MustValue converts a Go value as [Value] does. MustValue panics if encoding/json can't encode the value, for example
// a channel.
func MustValue(of any) *structpb.Value {
	value, err := Value(of)
	if err != nil {
		panic(fmt.Sprintf("runhub.MustValue: %v", err))
	}
	return value
}
