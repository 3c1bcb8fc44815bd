// A signal of this package reaches a process that was identified by pid and start time, or nobody.
//
// A generation is a leader with all that came of it: descendants, descendants that were orphaned and landed
// with the subreaper, whatever carries the generation's marks in its environment, and the members of its cgroup
// where one could be made.
package process
