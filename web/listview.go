package web

import (
	"cmp"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"riparo/store"
	"riparo/web/view"
)

// The columns of a list and its order stand in its address, so that a link shows what
// its sender saw. What somebody chooses is kept with their account as well, and an
// address that says nothing of it leads to the one that does.

// list is one whose columns can be chosen.
type list struct {
	name, path string
	columns    []string // those that can be hidden
	sorted     []string // those it can be sorted by
	filters    []string // what else its address says
}

var lists = []list{
	{"machines", "/machines", machineColumns, append([]string{"name"}, machineColumns...), []string{"q", "health"}},
	{"jobs", "/jobs", jobColumns, nil, []string{"state"}},
}

func listNamed(name string) (list, bool) {
	i := slices.IndexFunc(lists, func(l list) bool { return l.name == name })
	if i < 0 {
		return list{}, false
	}
	return lists[i], true
}

// viewOf is what a query says of the columns of a list. What it does not know it leaves
// out.
func (l list) viewOf(q url.Values) (v store.ListView) {
	if by := q.Get("sort"); slices.Contains(l.sorted, strings.TrimPrefix(by, "-")) {
		v.Sort = by
	}
	for name := range strings.SplitSeq(q.Get("hide"), ",") {
		if slices.Contains(l.columns, name) && !slices.Contains(v.Hide, name) {
			v.Hide = append(v.Hide, name)
		}
	}
	return v
}

// query is the part of an address that viewOf reads.
func viewQuery(v store.ListView) url.Values {
	q := url.Values{}
	for name, value := range map[string]string{"sort": v.Sort, "hide": strings.Join(v.Hide, ",")} {
		if value != "" {
			q.Set(name, value)
		}
	}
	return q
}

// asKept shows a list as its reader wants to see it, where the address does not say how.
func (k *Console) asKept(name string, show http.HandlerFunc) http.HandlerFunc {
	l, _ := listNamed(name)
	return func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		kept := viewQuery(l.viewOf(viewQuery(userOf(r).Views[name])))
		if len(kept) == 0 || q.Has("sort") || q.Has("hide") {
			show(w, r)
			return
		}
		for name, values := range kept {
			q[name] = values
		}
		http.Redirect(w, r, l.path+"?"+q.Encode(), http.StatusFound)
	}
}

// keepView keeps how somebody wants to see a list, and shows it so. Nothing else is
// changed, so what was filtered stays filtered.
func (k *Console) keepView(w http.ResponseWriter, r *http.Request) {
	l, there := listNamed(r.PathValue("list"))
	if !there {
		k.fail(w, r, store.ErrNotFound)
		return
	}
	asked, err := url.ParseQuery(r.PostFormValue("view"))
	if err != nil {
		asked = nil // as somebody who asks for nothing
	}
	v := l.viewOf(asked)
	to := viewQuery(v)
	for _, name := range l.filters {
		if value := r.PostFormValue(name); value != "" {
			to.Set(name, value)
		}
	}
	next := l.path
	if len(to) > 0 {
		next += "?" + to.Encode()
	}
	k.onward(w, r, next, k.Identity.SetView(userOf(r).Name, l.name, v))
}

// columnsOf are the columns of a list as a menu: each leads to the view with it or
// without it.
func (l list) columnsOf(w *view.Words, v store.ListView) (columns []view.Choice) {
	for _, name := range l.columns {
		hidden := slices.Contains(v.Hide, name)
		toggled := store.ListView{Sort: v.Sort}
		if hidden {
			toggled.Hide = slices.DeleteFunc(slices.Clone(v.Hide), func(h string) bool { return h == name })
		} else {
			toggled.Hide = append(slices.Clone(v.Hide), name)
		}
		columns = append(columns, view.Choice{Value: viewQuery(toggled).Encode(), Text: columnName(w, name), Selected: !hidden})
	}
	return columns
}

// columnName is the head of a column.
func columnName(w *view.Words, name string) string {
	return w.T(cmp.Or(map[string]string{"name": "machine"}[name], name))
}

// shown takes the columns of a file that go with a hidden column of its list out of it.
func shown(s sheet, of map[string][]string, hide []string) sheet {
	gone := map[int]bool{}
	for _, column := range hide {
		for _, head := range of[column] {
			gone[slices.Index(s.head, head)] = true
		}
	}
	without := func(row []string) (left []string) {
		for i, cell := range row {
			if !gone[i] {
				left = append(left, cell)
			}
		}
		return left
	}
	out := sheet{name: s.name, head: without(s.head)}
	for _, row := range s.rows {
		out.rows = append(out.rows, without(row))
	}
	return out
}
