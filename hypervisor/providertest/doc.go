// Package providertest holds every hypervisor.Provider to its contract.
//
// [Run] takes a [Harness]: how to open the provider, a machine there that writes,
// and a way to tell whether disks show one instant of that machine. It tests the
// part that every provider has, then each capability that this one implements;
// what is not offered is reported as skipped, with the reason.
//
// The suite looks only at what a provider says and at the bytes it gives. It
// starts a guest few times, so that it is bearable where a boot takes seconds.
package providertest
