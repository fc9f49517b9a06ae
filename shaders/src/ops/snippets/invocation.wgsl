// Workgroups are folded into two dimensions; those past the end have nothing to do.

struct Invocation {
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
}

// The index of the workgroup.
fn workgroup_of(at: Invocation) -> u32 {
    return at.group.y * at.groups.x + at.group.x;
}

// The index of the invocation, in workgroups of 64.
fn index_of(at: Invocation) -> u32 {
    return workgroup_of(at) * 64u + at.lane;
}

