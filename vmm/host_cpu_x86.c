/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/host_cpu_x86.h"

#include "vmm/kvm.h"
#include "vmm/log.h"

#include <cpuid.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/platform/x86.h>
#include <sys/utsname.h>

#define IDENTITY_MAX 768

/* Family and model of leaf 1, without the stepping. */
#define FAMILY_MODEL_MASK 0x0fff0ff0u

enum cpuid_reg { EAX, EBX, ECX, EDX, REG_COUNT };

static const char *const reg_names[REG_COUNT] = {"eax", "ebx", "ecx", "edx"};

/* Leaves that tell one processor's features from another's, and which of their
 * registers: others hold the current CPU's number or the current XCR0's size.
 * Each costs an exit of some 6 us where the host is virtual itself; of most
 * libc knows the answer, since it has asked before. */
static const struct identity_leaf {
	uint32_t leaf, subleaf;
	int index;     /* libc's number for it; -1: it has none */
	uint32_t regs; /* bits, by enum cpuid_reg */
} identity_leaves[] = {
	{0, 0, -1, BIT(EAX) | BIT(EBX) | BIT(ECX) | BIT(EDX)},
	{1, 0, CPUID_INDEX_1, BIT(EAX) | BIT(ECX) | BIT(EDX)},
	{7, 0, CPUID_INDEX_7, BIT(EAX) | BIT(EBX) | BIT(ECX) | BIT(EDX)},
	{7, 1, CPUID_INDEX_7_ECX_1, BIT(EAX) | BIT(EBX) | BIT(ECX) | BIT(EDX)},
	{0xd, 0, -1, BIT(EAX) | BIT(EDX)},
	{0xd, 1, CPUID_INDEX_D_ECX_1, BIT(EAX) | BIT(ECX) | BIT(EDX)},
	{0x80000001, 0, CPUID_INDEX_80000001, BIT(ECX) | BIT(EDX)},
	{0x80000008, 0, CPUID_INDEX_80000008, BIT(EAX) | BIT(EBX)},
	{0x80000021, 0, -1, BIT(EAX)},
};

/* What tells KVM's backends and their module parameters apart. */
static const int identity_caps[] = {
	KVM_CAP_NESTED_STATE, KVM_CAP_TSC_CONTROL,    KVM_CAP_X86_SMM,
	KVM_CAP_XSAVE2,	      KVM_CAP_PMU_CAPABILITY,
};

/* Registers with one feature per bit. */
static const struct feature_word {
	uint32_t leaf, subleaf;
	enum cpuid_reg reg;
	/* Bits that a guest may see though KVM does not list them: those that
	 * vmm/cpuid_x86.c sets, and those that mirror the guest's CR4. */
	uint32_t always;
} feature_words[] = {
	{1, 0, ECX, BIT(24) | BIT(27) | BIT(31)}, /* deadline, OSXSAVE, guest */
	{1, 0, EDX, BIT(28)},			  /* HTT */
	{7, 0, EBX, BIT(6) | BIT(13)},		  /* x87 details */
	{7, 0, ECX, BIT(4)},			  /* OSPKE */
	{7, 0, EDX, 0},
	{7, 1, EAX, 0},
	{7, 1, EBX, 0},
	{7, 1, ECX, 0},
	{7, 1, EDX, 0},
	{7, 2, EDX, 0},
	{0xd, 0, EAX, 0}, /* XCR0 */
	{0xd, 0, EDX, 0},
	{0xd, 1, EAX, 0},
	{0xd, 1, ECX, 0}, /* IA32_XSS */
	{0xd, 1, EDX, 0},
	{0x40000001, 0, EAX, 0}, /* KVM's own */
	{0x80000001, 0, ECX, 0},
	{0x80000001, 0, EDX, 0},
	{0x80000007, 0, EDX, 0},
	{0x80000008, 0, EBX, 0},
	{0x80000021, 0, EAX, 0},
};

/* ----------------------------------------------------------------- identity */

static void read_leaf(const struct identity_leaf *leaf,
		      uint32_t regs[REG_COUNT])
{
	if (leaf->index < 0)
		__cpuid_count(leaf->leaf, leaf->subleaf, regs[EAX], regs[EBX],
			      regs[ECX], regs[EDX]);
	else
		memcpy(regs,
		       __x86_get_cpuid_feature_leaf((unsigned)leaf->index)
			       ->cpuid_array,
		       REG_COUNT * sizeof(*regs));
}

static int put_leaves(char *text, size_t size)
{
	int len = 0;

	for (size_t i = 0; i < ARRAY_SIZE(identity_leaves); i++) {
		uint32_t regs[REG_COUNT];

		read_leaf(&identity_leaves[i], regs);
		for (size_t j = 0; j < REG_COUNT; j++)
			if (identity_leaves[i].regs & BIT(j))
				len += snprintf(text + len, size - (size_t)len,
						"%x ", regs[j]);
	}
	return len;
}

static int put_caps(const struct kvm *kvm, char *text, size_t size)
{
	int len = 0;

	for (size_t i = 0; i < ARRAY_SIZE(identity_caps); i++)
		len += snprintf(text + len, size - (size_t)len, "%d ",
				ioctl(kvm->vm_fd, KVM_CHECK_EXTENSION,
				      identity_caps[i]));
	return len;
}

int host_cpu_identity(struct kvm *kvm, const char **ret_text, struct error *err)
{
	struct utsname kernel;
	char text[IDENTITY_MAX];
	int len;

	if (!kvm->host) {
		/* Words of at most 11 characters: all fit. */
		len = put_leaves(text, sizeof(text));
		len += put_caps(kvm, text + len, sizeof(text) - (size_t)len);
		if (uname(&kernel))
			return error_set_os(err, errno, "uname:");
		snprintf(text + len, sizeof(text) - (size_t)len, "%s %s",
			 kernel.release, kernel.version);
		kvm->host = strdup(text);
	}
	if (!kvm->host)
		return error_set_os(err, ENOMEM, "Cannot identify the host:");
	*ret_text = kvm->host;
	return 0;
}

/* ----------------------------------------------------------------- features */

static uint32_t reg_of(const struct kvm_cpuid_entry2 *entry, enum cpuid_reg reg)
{
	const uint32_t regs[REG_COUNT] = {entry->eax, entry->ebx, entry->ecx,
					  entry->edx};

	return regs[reg];
}

/* The first one counts for KVM, too. */
static uint32_t find_reg(const struct kvm_cpuid2 *cpuid, uint32_t leaf,
			 uint32_t subleaf, enum cpuid_reg reg)
{
	for (uint32_t i = 0; i < cpuid->nent; i++)
		if (cpuid->entries[i].function == leaf &&
		    cpuid->entries[i].index == subleaf)
			return reg_of(&cpuid->entries[i], reg);
	return 0;
}

/* As much as fits. */
static void append(struct error *text, const char *fmt, ...) printf_like(2, 3);

static void append(struct error *text, const char *fmt, ...)
{
	size_t len = strlen(text->text);
	va_list args;

	va_start(args, fmt);
	vsnprintf(text->text + len, sizeof(text->text) - len, fmt, args);
	va_end(args);
}

static void describe(struct error *text, const struct feature_word *word,
		     uint32_t lacking)
{
	const char *separator = "";

	append(text, "%sleaf %#x.%u %s bit%s ", text->text[0] ? "; " : "",
	       word->leaf, word->subleaf, reg_names[word->reg],
	       lacking & (lacking - 1) ? "s" : "");
	for (unsigned bit = 0; bit < 32; bit++) {
		if (!(lacking & BIT(bit)))
			continue;
		append(text, "%s%u", separator, bit);
		separator = ", ";
	}
}

static int check_features(const struct kvm_cpuid2 *guest,
			  const struct kvm_cpuid2 *host, struct error *err)
{
	struct error text = {0};

	for (size_t i = 0; i < ARRAY_SIZE(feature_words); i++) {
		const struct feature_word *word = &feature_words[i];
		uint32_t lacking =
			find_reg(guest, word->leaf, word->subleaf, word->reg);

		lacking &=
			~find_reg(host, word->leaf, word->subleaf, word->reg);
		lacking &= ~word->always;
		if (lacking)
			describe(&text, word, lacking);
	}
	if (!text.text[0])
		return 0;
	return error_set(err, ENOTSUP,
			 "The snapshot needs CPU features that this host "
			 "lacks: %s",
			 text.text);
}

static void warn_of_model(const struct kvm_cpuid2 *guest,
			  const struct kvm_cpuid2 *host)
{
	uint32_t saved = find_reg(guest, 1, 0, EAX);
	uint32_t here = find_reg(host, 1, 0, EAX);

	for (enum cpuid_reg reg = EBX; reg < REG_COUNT; reg++) {
		if (find_reg(guest, 0, 0, reg) == find_reg(host, 0, 0, reg))
			continue;
		log_warn("The snapshot is of another vendor's CPU than this "
			 "host's");
		return;
	}
	if ((saved ^ here) & FAMILY_MODEL_MASK)
		log_warn("The snapshot is of a CPU of another family or model: "
			 "%#x, this host's is %#x",
			 saved, here);
}

int host_cpu_check(struct kvm *kvm, const struct kvm_cpuid2 *guest,
		   const char *identity, bool warn, struct error *err)
{
	const struct kvm_cpuid2 *host;
	const char *here = "";
	int ret = host_cpu_identity(kvm, &here, err);

	if (ret)
		return ret;
	if (identity && strcmp(identity, here) == 0)
		return 0;
	ret = kvm_supported_cpuid(kvm, &host, err);
	if (ret)
		return ret;
	if (warn)
		warn_of_model(guest, host);
	return check_features(guest, host, err);
}
