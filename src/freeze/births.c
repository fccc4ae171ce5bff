/* How the processes of a tree are born in a clone: each must come out of a fork of its parent, at a moment when
 * that is in the right session, and be in its process group before any of them runs on.
 *
 *   A process that is not a session leader is in the session that its parent was in when it was forked. If that
 *   is not its parent's session now, it was forked before its parent called setsid, and is again (early).
 *   An orphan is forked by a helper, which ends, so that the kernel gives it to pid 1 as it did before. The
 *   helper must be in the orphan's session: it is forked by somebody who is, or it is the session's leader
 *   itself, under the number of the one that has long ended.
 *   A group whose leader has ended is led by a helper, under the leader's number, until all others are in it.
 */
#include "freeze/family.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define HELPER_FIRST_PID 300 /* the kernel gives lower ones only to who asks for them */

static int refuse(const struct relative *relative, struct error *err, const char *why)
{
    return error_set(err, ERROR_UNSUPPORTED, "process %d (%s): %s", relative->inner, relative->name, why);
}

static bool leads_session(const struct relative *r)
{
    return r->session == r->inner;
}

static bool leads_group(const struct relative *r)
{
    return r->group == r->inner;
}

static struct relative *find_inner(const struct family *family, int32_t inner)
{
    for (size_t i = 0; i < family->count; i++)
        if (family->list[i].inner == inner)
            return &family->list[i];
    return NULL;
}

static bool number_is_used(const struct family *family, int32_t number)
{
    for (size_t i = 0; i < family->count; i++) {
        const struct relative *r = &family->list[i];
        if (r->inner == number || r->session == number || r->group == number)
            return true;
        for (size_t k = 0; r->freeze != NULL && k < r->freeze->tracee.thread_count; k++)
            if (r->freeze->tracee.threads[k].inner_tid == number)
                return true;
    }
    return false;
}

/* `number` 0: any that is free. */
static struct relative *add_helper(struct family *family, struct relative *parent, int32_t number)
{
    if (family->count == RELATIVES_MAX)
        return NULL;
    for (int32_t next = HELPER_FIRST_PID; number == 0; next++)
        number = number_is_used(family, next) ? 0 : next;
    struct relative *helper = &family->list[family->count++];
    *helper = (struct relative){.kind = IMAGE_HELPER,
        .inner = number,
        .parent = parent,
        .exit_signal = SIGCHLD,
        .session = parent->session,
        .group = parent->group,
        .birth_session = RELATIVE_ANY_SESSION,
        .name = "thaw-helper"};
    return helper;
}

/* ---- sessions ---- */

static bool can_be_born_by(const struct relative *parent, int32_t session)
{
    return session == RELATIVE_ANY_SESSION || session == parent->session || session == parent->birth_session;
}

/* What a process needs of its birth: bottom up, as a leader passes on what its early children need. */
static int need_session(struct family *family, struct relative *r, struct error *err)
{
    r->birth_session = leads_session(r) ? RELATIVE_ANY_SESSION : r->session;
    for (size_t i = 0; i < family->count; i++) {
        struct relative *child = &family->list[i];
        if (child->parent != r || child == r)
            continue;
        if (need_session(family, child, err) < 0)
            return -1;
        if (child->birth_session == RELATIVE_ANY_SESSION || child->birth_session == r->session)
            continue;
        if (!leads_session(r) ||
            (r->birth_session != RELATIVE_ANY_SESSION && r->birth_session != child->birth_session))
            return refuse(child, err, "it is in a session that its parent was never in");
        child->is_early = true;
        r->birth_session = child->birth_session;
    }
    return 0;
}

static bool comes_from_orphan(const struct relative *r)
{
    while (r != NULL && !r->is_orphan)
        r = r->parent;
    return r != NULL;
}

/* Who can fork a helper in this session. For orphans it must not be one of those that the helper is for. */
static struct relative *find_in_session(struct family *family, int32_t session, bool for_orphans)
{
    struct relative *root = &family->list[0], *leader = find_inner(family, session);
    if (root->session == session || session == 0)
        return root;
    if (leader != NULL && leader->kind == IMAGE_LIVE)
        return leader;
    for (size_t i = 1; i < family->count; i++) {
        struct relative *r = &family->list[i];
        if (r->kind == IMAGE_LIVE && r->session == session && !(for_orphans && comes_from_orphan(r)))
            return r;
    }
    return NULL;
}

/* Who forks the orphans of a session and ends. */
static struct relative *helper_for(struct family *family, int32_t session)
{
    struct relative *leader = find_inner(family, session);
    if (leader != NULL && leader->kind != IMAGE_LIVE)
        return leader; /* a zombie, or the helper that was made for another orphan */
    for (size_t i = 0; i < family->count; i++)
        if (family->list[i].kind == IMAGE_HELPER && family->list[i].session == session)
            return &family->list[i];
    struct relative *in_session = find_in_session(family, session, true);
    if (in_session != NULL) {
        struct relative *helper = add_helper(family, in_session, 0);
        if (helper != NULL)
            helper->session = session;
        return helper;
    }
    struct relative *helper = add_helper(family, &family->list[0], session);
    if (helper != NULL)
        helper->session = helper->group = session;
    return helper;
}

/* An orphan that leads its session may have any other: all such have one helper. */
static int adopt_orphans(struct family *family, struct error *err)
{
    size_t count = family->count;
    for (size_t i = 1; i < count; i++) {
        struct relative *r = &family->list[i];
        if (!r->is_orphan)
            continue;
        int32_t session =
            r->birth_session == RELATIVE_ANY_SESSION ? family->list[0].session : r->birth_session;
        r->parent = helper_for(family, session);
        if (r->parent == NULL)
            return error_set(
                err, ERROR_UNSUPPORTED, "there are more than %d processes and helpers", RELATIVES_MAX);
    }
    return 0;
}

/* ---- groups ---- */

/* The group of a parent at the moment when it forks. */
static int32_t inherited_group(const struct relative *child)
{
    const struct relative *parent = child->parent;
    while (parent != NULL) {
        bool session_is_made = leads_session(parent) && !child->is_early;
        if (session_is_made || (leads_group(parent) && !leads_session(parent)))
            return parent->inner;
        child = parent;
        parent = parent->parent;
    }
    return 0; /* what the root is born into */
}

/* One that joins a group needs somebody who leads it, in its own session. */
static int find_group(struct family *family, struct relative *r, struct error *err)
{
    r->has_group = leads_group(r) || r->group == inherited_group(r);
    if (r->has_group)
        return 0;
    family->waits_for_births = true;
    struct relative *leader = r->group == 0 ? NULL : find_inner(family, r->group);
    struct relative *in_session = find_in_session(family, r->session, false);
    if (leader == NULL && r->group != 0 && in_session != NULL && in_session->session == r->session)
        leader = add_helper(family, in_session, r->group);
    if (leader == NULL || leader->session != r->session)
        return refuse(r, err, "it is in a process group that cannot be made again");
    leader->group = r->group;
    leader->has_group = true;
    return 0;
}

static int find_groups(struct family *family, struct error *err)
{
    for (size_t i = 0; i < family->count; i++) {
        struct relative *r = &family->list[i];
        if (r->kind == IMAGE_HELPER && !leads_group(r)) {
            r->group = inherited_group(r);
            r->has_group = true;
        } else if (find_group(family, r, err) < 0) {
            return -1;
        }
    }
    return 0;
}

/* ---- order ---- */

static void number_one(struct family *family, struct relative *r, uint32_t *next)
{
    r->index = (*next)++;
    family->order[r->index] = r;
    for (int early = 1; early >= 0; early--)
        for (size_t i = 1; i < family->count; i++)
            if (family->list[i].parent == r && family->list[i].is_early == early)
                number_one(family, &family->list[i], next);
}

/* One that is not born to anybody would be lost. */
static int number_all(struct family *family, struct error *err)
{
    uint32_t numbered = 0;
    number_one(family, &family->list[0], &numbered);
    if (numbered != family->count)
        return error_set(
            err, ERROR_INTERNAL, "%zu processes are nobody's children", family->count - numbered);
    if (family->count > IMAGE_PROCESSES_MAX)
        return error_set(
            err, ERROR_UNSUPPORTED, "there are more than %d processes and helpers", IMAGE_PROCESSES_MAX);
    return 0;
}

int family_arrange(struct family *family, struct error *err)
{
    struct relative *root = &family->list[0];
    for (size_t i = 1; i < family->count; i++)
        if (family->list[i].is_outsider)
            family->list[i].parent = root;
    for (size_t i = 1; i < family->count; i++)
        if (family->list[i].is_orphan && need_session(family, &family->list[i], err) < 0)
            return -1;
    if (adopt_orphans(family, err) < 0 || need_session(family, root, err) < 0)
        return -1;
    if (!can_be_born_by(&(struct relative){.session = 0}, root->birth_session))
        return refuse(root, err, "it is in a session that a clone cannot be born into");
    /* Once to see that all descend from the root, and again as groups may need helpers. */
    if (number_all(family, err) < 0 || find_groups(family, err) < 0)
        return -1;
    return number_all(family, err);
}

/* ---- plans ---- */

static void plan_forks(const struct family *family, const struct relative *r, struct plan *plan, bool early)
{
    for (uint32_t index = r->index + 1; index < family->count; index++) {
        const struct relative *child = family->order[index];
        if (child->parent != r || child->is_early != early)
            continue;
        struct plan_op *op = plan_do(plan, PLAN_FORK, plan_literal(child->index),
            plan_literal(child->is_outsider ? CLONE_PARENT : 0),
            plan_literal(child->is_outsider ? 0 : (uint64_t)child->exit_signal));
        plan_expect_value(op, child->inner);
    }
}

static void plan_barrier(struct plan *plan, enum plan_barrier barrier, size_t count)
{
    plan_do(plan, PLAN_BARRIER, plan_literal(barrier), plan_literal(count));
}

static void plan_groups(const struct family *family, const struct relative *r, struct plan *plan)
{
    if (!family->waits_for_births)
        return;
    plan_barrier(plan, PLAN_BARRIER_BORN, family->count);
    if (!r->has_group)
        plan_call(plan, SYS_setpgid, plan_literal(0), plan_literal((uint64_t)r->group));
    plan_barrier(plan, PLAN_BARRIER_GROUPED, family->count);
}

/* Wait for those that end. A zombie stays one; and no signal tells of an end that was known at the freeze:
 * what was pending then is sent again at the release. */
static void plan_deaths(
    const struct family *family, const struct relative *r, struct image *image, struct plan *plan)
{
    uint64_t signals = 0;
    for (size_t i = 1; i < family->count; i++) {
        const struct relative *child = &family->list[i];
        if (child->parent != r || child->kind == IMAGE_LIVE)
            continue;
        if (child->exit_signal > 0)
            signals |= 1ull << (child->exit_signal - 1);
        struct plan_arg number = plan_literal((uint64_t)child->inner);
        uint64_t options = WEXITED | __WALL | (child->kind == IMAGE_ZOMBIE ? WNOWAIT : 0);
        plan_call(plan, SYS_waitid, plan_literal(P_PID), number, plan_literal(0), plan_literal(options));
    }
    if (signals == 0)
        return;
    uint64_t at_once[2] = {0, 0};
    plan_call(plan, SYS_rt_sigtimedwait, plan_data(image_put(image, &signals, sizeof signals)),
        plan_literal(0), plan_data(image_put(image, at_once, sizeof at_once)), plan_literal(sizeof signals))
        ->expect = PLAN_EXPECT_ANYTHING;
}

/* With the status that it had: what the original's parent did not ask for yet. */
static void plan_end(const struct relative *r, struct image *image, struct plan *plan)
{
    uint64_t name = image_put(image, r->name, sizeof r->name);
    int signal_number = r->exit_status & 0x7f;
    if (r->kind == IMAGE_ZOMBIE)
        plan_call(plan, SYS_prctl, plan_literal(PR_SET_NAME), plan_data(name));
    if (signal_number != 0) {
        uint64_t mask = 1ull << (signal_number - 1);
        plan_call(plan, SYS_prctl, plan_literal(PR_SET_DUMPABLE), plan_literal(0)); /* no core */
        plan_call(plan, SYS_rt_sigprocmask, plan_literal(SIG_UNBLOCK),
            plan_data(image_put(image, &mask, sizeof mask)), plan_literal(0), plan_literal(sizeof mask));
        plan_call(plan, SYS_kill, plan_literal((uint64_t)r->inner), plan_literal((uint64_t)signal_number));
    }
    plan_call(plan, SYS_exit_group, plan_literal((uint64_t)(r->exit_status >> 8 & 0xff)));
}

void family_plan_births(struct family *family, struct image *image)
{
    for (size_t i = 0; i < family->count; i++) {
        const struct relative *r = &family->list[i];
        struct plan *plan = &image->processes[r->index].process_plan;
        if (leads_group(r) && !leads_session(r))
            plan_call(plan, SYS_setpgid, plan_literal(0), plan_literal(0));
        plan_forks(family, r, plan, true);
        if (leads_session(r))
            plan_call(plan, SYS_setsid, plan_literal(0));
        plan_forks(family, r, plan, false);
        plan_groups(family, r, plan);
        plan_deaths(family, r, image, plan);
        if (r->kind != IMAGE_LIVE)
            plan_end(r, image, plan);
    }
}
