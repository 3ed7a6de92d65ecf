package nbd

import (
	"slices"
	"testing"
)

func TestBordersInsideABlockAreMoved(t *testing.T) {
	const zero = StateHole | StateZero
	for _, c := range []struct {
		context string
		list    []descriptor
		want    []descriptor
	}{
		{AllocationContext, []descriptor{{512, 0}, {1024, zero}}, []descriptor{{512, 0}, {1024, zero}}},
		{AllocationContext, []descriptor{{1, 0}, {511, zero}, {512, zero}}, []descriptor{{512, 0}, {512, zero}}},
		{AllocationContext, []descriptor{{513, zero}, {1535, 0}}, []descriptor{{512, zero}, {512, 0}, {1024, 0}}},
		{AllocationContext, []descriptor{{1000, zero}, {10, zero}, {10, 0}, {4, zero}}, []descriptor{{512, zero}, {512, 0}}},
		{AllocationContext, []descriptor{{5, zero}}, []descriptor{{512, 0}}},
		{AllocationContext, []descriptor{{1029, zero}}, []descriptor{{1024, zero}}},
		{DirtyBitmapPrefix + "x", []descriptor{{511, 0}, {2, StateDirty}, {511, 0}}, []descriptor{{512, StateDirty}, {512, StateDirty}}},
		{DirtyBitmapPrefix + "x", []descriptor{{1, 0}}, []descriptor{{512, StateDirty}}},
	} {
		if got := aligned(slices.Clone(c.list), c.context, 512); !slices.Equal(got, c.want) {
			t.Errorf("%s %v: got %v, want %v", c.context, c.list, got, c.want)
		}
	}
}
