package web

import (
	"net/http"
	"slices"
	"strings"

	"riparo/hypervisor"
	"riparo/replication"
	"riparo/web/api"
	"riparo/web/view"
)

// protectPage asks how a discovered machine is to be protected.
func (k *Console) protectPage(v visit) (built, error) {
	return k.protectForm(v, v.query.Get("site"), v.query.Get("ref"), nil, nil)
}

// protectForm shows what can be chosen. given is what was chosen before, when
// something was not right with it.
func (k *Console) protectForm(v visit, site, ref string, given *ProtectRequest, problem error) (built, error) {
	w := v.words
	p := view.Protect{Site: site, Ref: ref}
	b := built{title: w.T("protect.title"), place: "machines"}
	if problem != nil {
		m := messageOf(w, replication.AsProblem(problem))
		p.Message, b.status = &m, http.StatusConflict
	}
	sites, err := k.Appliance.Discovered(v.ctx, false)
	if err != nil {
		return built{}, err
	}
	machine, found := findMachine(sites, site, ref)
	switch {
	case !found:
		p.Empty = &view.Empty{Icon: "machine", Title: w.T("protect.gone"), Text: w.T("protect.gone-text"), Action: &view.Action{Href: "/machines", Text: w.T("machines.title")}}
	case len(sites) < 2:
		p.Name = machine.Name
		p.Empty = &view.Empty{Icon: "infrastructure", Title: w.T("protect.one-site"), Text: w.T("protect.one-site-text"),
			Action: &view.Action{Href: "/infrastructure/add", Text: w.T("site.add"), Icon: "add", Kind: "primary"}}
	}
	if p.Empty != nil {
		b.body = view.ProtectPage(p)
		return b, nil
	}
	p.Name = machine.Name
	p.Facts = []view.Fact{{Label: w.T("site"), Value: site}, {Label: w.T("power"), Value: w.Named("power", string(machine.Power))},
		{Label: w.T("memory"), Value: w.Bytes(int64(machine.MemoryMiB) << 20)}, {Label: w.T("processors"), Value: w.Int(int64(machine.CPUs))}}
	seeds, err := k.Appliance.Seeds(v.ctx)
	if err != nil {
		return built{}, err
	}
	fits := 0
	for _, d := range machine.Disks {
		on := given == nil || !slices.Contains(given.Exclude, d.Key)
		choice := view.DiskChoice{Key: d.Key, Size: w.Bytes(d.Size), Boot: d.Boot, On: on}
		if given != nil {
			choice.Seeds = seedChoices(w, seeds, d, given.Seeded[d.Key])
		} else {
			choice.Seeds = seedChoices(w, seeds, d, "")
		}
		if len(choice.Seeds) > 0 {
			fits++
		}
		p.Disks = append(p.Disks, choice)
	}
	p.SeedFolder, p.SeedOpen = seeds.Folder, given != nil && len(given.Seeded) > 0
	switch {
	case len(seeds.Images) == 0:
		p.SeedText = w.T("protect.seed-none")
	case fits == 0:
		p.SeedText = w.N("protect.seed-unfit", len(seeds.Images))
	}
	p.Networks = []view.Choice{{Value: "", Text: w.T("network.none")}}
	for _, s := range sites {
		if s.Site.Name == site {
			continue
		}
		text := s.Site.Name
		if s.Problem != nil {
			text += " · " + w.T("site.away")
		}
		p.Targets = append(p.Targets, view.Choice{Value: s.Site.Name, Text: text})
		p.Networks = append(p.Networks, networkChoices(w, s.Site.Name+" · ", s.Networks)...)
	}
	r, err := k.records()
	if err != nil {
		return built{}, err
	}
	for _, name := range slices.Sorted(keysOf(r.policies)) {
		policy := r.policies[name]
		p.Policies = append(p.Policies, view.Choice{Value: name, Text: name + " · " + w.T("fact.every", "Every", w.Setting(policy.CopyFrequency)) + " · " + policy.Retention.String()})
	}
	if given != nil {
		choose(p.Targets, given.Target)
		choose(p.Policies, given.Policy)
		choose(p.Networks, given.Network)
		p.BootSign = given.BootSign
	}
	b.body = view.ProtectPage(p)
	return b, nil
}

// seedChoices are the images that a disk can be filled from: those of its size. One
// that was chosen and is gone, or fits no more, stays on the list.
func seedChoices(w *view.Words, seeds api.Seeds, d hypervisor.Disk, chosen string) []view.Choice {
	var choices []view.Choice
	for _, s := range seeds.Images {
		if s.Bytes == d.Size || s.Name == chosen {
			choices = append(choices, view.Choice{Value: s.Name, Text: s.Name, Selected: s.Name == chosen})
		}
	}
	if chosen != "" && !slices.ContainsFunc(choices, func(c view.Choice) bool { return c.Selected }) {
		choices = append(choices, view.Choice{Value: chosen, Text: chosen, Selected: true})
	}
	if len(choices) == 0 {
		return nil
	}
	return append([]view.Choice{{Text: w.T("protect.seed-without")}}, choices...)
}

func choose(choices []view.Choice, value string) {
	for i := range choices {
		choices[i].Selected = choices[i].Value == value
	}
}

func findMachine(sites []DiscoveredSite, site, ref string) (hypervisor.Machine, bool) {
	for _, s := range sites {
		for _, m := range s.Machines {
			if s.Site.Name == site && string(m.Ref) == ref {
				return m, true
			}
		}
	}
	return hypervisor.Machine{}, false
}

// protect starts the protection. Disks that were not ticked are left out.
func (k *Console) protect(w http.ResponseWriter, r *http.Request) {
	v := k.visitOf(r)
	request := ProtectRequest{Actor: v.user.Name, Site: r.PostFormValue("site"), Ref: hypervisor.Ref(r.PostFormValue("ref")),
		Target: r.PostFormValue("target"), Policy: r.PostFormValue("policy"), Network: r.PostFormValue("network"),
		BootSign: strings.TrimSpace(r.PostFormValue("boot_sign"))}
	sites, err := k.Appliance.Discovered(r.Context(), false)
	if err != nil {
		k.fail(w, r, err)
		return
	}
	machine, _ := findMachine(sites, request.Site, string(request.Ref))
	for _, d := range machine.Disks {
		if !slices.Contains(r.PostForm["disk"], d.Key) {
			request.Exclude = append(request.Exclude, d.Key)
		}
		if name := r.PostFormValue("seed-" + d.Key); name != "" {
			if request.Seeded == nil {
				request.Seeded = map[string]string{}
			}
			request.Seeded[d.Key] = name
		}
	}
	if len(machine.Disks) > 0 && len(request.Exclude) == len(machine.Disks) {
		err = &replication.Problem{Code: "protect.no-disk", Cause: "no disk is chosen", Action: "choose at least the disk that the machine boots from", Remedy: replication.Stop}
	}
	job := ""
	if err == nil {
		_, job, err = k.Appliance.Protect(r.Context(), request)
	}
	if err != nil {
		b, failed := k.protectForm(v, request.Site, string(request.Ref), &request, err)
		if failed != nil {
			k.fail(w, r, failed)
			return
		}
		k.print(w, v, b)
		return
	}
	k.back(w, r, "/jobs/"+job)
}
