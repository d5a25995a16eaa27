package runhub

import (
	"encoding/json"
	"fmt"

	"google.golang.org/protobuf/types/known/structpb"
)

// Value makes a field of any JSON (a payload, a result, a progress) from what encoding/json takes: maps, slices, structs.
func Value(of any) (*structpb.Value, error) {
	text, err := json.Marshal(of)
	if err != nil {
		return nil, err
	}
	value := new(structpb.Value)
	return value, value.UnmarshalJSON(text)
}

// MustValue is Value for literals. It panics on what is no JSON: a channel, say.
func MustValue(of any) *structpb.Value {
	value, err := Value(of)
	if err != nil {
		panic(fmt.Sprintf("runhub.MustValue: %v", err))
	}
	return value
}
