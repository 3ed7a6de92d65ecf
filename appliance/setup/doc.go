// Package setup looks at what an appliance is given to work with: whether a folder is
// fit for the vault, how far the clock is off, and who answers at the address of a
// site. What it tells is measured, at the moment it is asked.
package setup
