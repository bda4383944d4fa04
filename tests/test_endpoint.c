/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * Addresses as they come in and go out, and the admission of them: every range
 * that is refused is asked at both of its ends and just outside.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "dragoman/model/endpoint.h"

static struct endpoint endpoint_of(const char *address, uint16_t port)
{
	struct endpoint endpoint = {.port = port};

	assert_int_equal(endpoint_parse_address(address, strlen(address), &endpoint), 0);
	return endpoint;
}

static void test_endpoint_parse_address_of_literals_is_canonical(void **state)
{
	static const struct {
		const char *text;
		enum family family;
		const char *address, *endpoint;
	} cases[] = {
		{"192.168.13.90", FAMILY_IPV4, "192.168.13.90", "192.168.13.90:80"},
		{"255.255.255.255", FAMILY_IPV4, "255.255.255.255", "255.255.255.255:80"},
		{"::", FAMILY_IPV6, "::", "[::]:80"},
		{"2001:DB8:0:0::2", FAMILY_IPV6, "2001:db8::2", "[2001:db8::2]:80"},
		{"2001:db8:0:1:1:1:1:1", FAMILY_IPV6, "2001:db8:0:1:1:1:1:1",
		 "[2001:db8:0:1:1:1:1:1]:80"},
		{"ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", FAMILY_IPV6,
		 "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
		 "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:80"},
		{"::ffff:10.0.0.1", FAMILY_IPV4, "10.0.0.1", "10.0.0.1:80"},
		{"::FFFF:a00:1", FAMILY_IPV4, "10.0.0.1", "10.0.0.1:80"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct endpoint endpoint;
		char text[ENDPOINT_TEXT_MAX];

		/* Whatever was there before must not show. */
		memset(&endpoint, 0xff, sizeof(endpoint));
		endpoint.port = 80;
		assert_int_equal(
			endpoint_parse_address(cases[i].text, strlen(cases[i].text), &endpoint), 0);
		assert_int_equal(endpoint.family, cases[i].family);
		assert_string_equal(endpoint_format_address(&endpoint, text), cases[i].address);
		assert_string_equal(endpoint_format(&endpoint, text), cases[i].endpoint);
	}
}

static void test_endpoint_parse_address_of_mapped_is_the_same_bytes(void **state)
{
	static const struct endpoint expected = {
		.family = FAMILY_IPV4, .port = 80, .address = {10, 0, 0, 1}};
	struct endpoint mapped, plain;

	(void)state;
	/* Whatever was there before must not be among them. */
	memset(&mapped, 0xff, sizeof(mapped));
	memset(&plain, 0xee, sizeof(plain));
	mapped.port = plain.port = 80;
	assert_int_equal(endpoint_parse_address("::ffff:10.0.0.1", 15, &mapped), 0);
	assert_int_equal(endpoint_parse_address("10.0.0.1", 8, &plain), 0);
	assert_memory_equal(&mapped, &expected, sizeof(expected));
	assert_memory_equal(&plain, &expected, sizeof(expected));
}

static void test_endpoint_parse_address_of_else_is_refused(void **state)
{
	static const char *const cases[] = {
		"",
		"fury",
		"1.2.3",
		"010.0.0.1",
		"1.2.3.4 ",
		" 1.2.3.4",
		"1.2.3.256",
		"0x7f.0.0.1",
		"2130706433",
		"fe80::1%1",
		"fe80::1%eth0",
		"[::1]",
		"1.2.3.4/32",
		":::",
		"1:2:3:4:5:6:7",
		"1.2.3.4:80",
		"12345::1",
		"::ffff:1.2.3.4.5",
		"ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct endpoint endpoint = {.family = 7, .address = {9}};

		assert_int_equal(endpoint_parse_address(cases[i], strlen(cases[i]), &endpoint),
				 -EINVAL);
		assert_int_equal(endpoint.family, 7);
		assert_int_equal(endpoint.address[0], 9);
	}
}

static void test_endpoint_parse_address_with_nul_is_refused(void **state)
{
	struct endpoint endpoint;

	(void)state;
	assert_int_equal(endpoint_parse_address("1.2.3.4\0x", 9, &endpoint), -EINVAL);
	assert_int_equal(endpoint_parse_address("1.2.3.45", 7, &endpoint), 0);
	assert_int_equal(endpoint.address[3], 4);
}

static void test_endpoint_compare_orders_family_address_port(void **state)
{
	const struct endpoint ordered[] = {
		endpoint_of("9.0.0.1", 90),     endpoint_of("10.0.0.1", 80),
		endpoint_of("10.0.0.1", 8080),  endpoint_of("10.0.0.2", 1),
		endpoint_of("200.0.0.1", 1),    endpoint_of("::1", 80),
		endpoint_of("2001:db8::1", 80), endpoint_of("fe80::", 1),
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(ordered); i++) {
		for (size_t n = 0; n < ARRAY_SIZE(ordered); n++) {
			int order = endpoint_compare(&ordered[i], &ordered[n]);

			assert_int_equal((order > 0) - (order < 0), (i > n) - (i < n));
		}
	}
}

static void test_listen_compare_orders_port_then_protocol(void **state)
{
	static const struct listen ordered[] = {
		{PROTOCOL_TCP, 53}, {PROTOCOL_UDP, 53}, {PROTOCOL_TCP, 80}, {PROTOCOL_TCP, 60000}};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(ordered); i++) {
		for (size_t n = 0; n < ARRAY_SIZE(ordered); n++)
			assert_int_equal(listen_compare(&ordered[i], &ordered[n]),
					 (i > n) - (i < n));
	}
}

static void test_listen_format_shows_localhost(void **state)
{
	const struct listen listen = {PROTOCOL_UDP, 65535};
	char text[ENDPOINT_TEXT_MAX];

	(void)state;
	assert_string_equal(listen_format(&listen, FAMILY_IPV4, text), "127.0.0.1:65535/udp");
	assert_string_equal(listen_format(&listen, FAMILY_IPV6, text), "[::1]:65535/udp");
}

static void test_protocol_parse_of_any_case_is_known(void **state)
{
	enum protocol protocol = PROTOCOL_UDP;

	(void)state;
	assert_int_equal(protocol_parse("TcP", 3, &protocol), 0);
	assert_int_equal(protocol, PROTOCOL_TCP);
	assert_int_equal(protocol_parse("udp", 3, &protocol), 0);
	assert_int_equal(protocol, PROTOCOL_UDP);
	assert_int_equal(protocol_parse("tcp", 2, &protocol), -EINVAL);
	assert_int_equal(protocol_parse("tcp6", 4, &protocol), -EINVAL);
	assert_int_equal(protocol_parse("", 0, &protocol), -EINVAL);
	assert_string_equal(protocol_name(PROTOCOL_TCP), "tcp");
	assert_string_equal(protocol_name(PROTOCOL_UDP), "udp");
}

static void test_admission_by_default_refuses_what_no_service_has(void **state)
{
	static const char unspecified[] = "unspecified address (see --allow-endpoints)",
			  loopback[] = "loopback address (see --allow-endpoints)",
			  link_local[] = "link-local address (see --allow-endpoints)",
			  multicast[] = "multicast address (see --allow-endpoints)",
			  broadcast[] = "broadcast address (see --allow-endpoints)";
	static const struct {
		const char *address, *reason;
	} cases[] = {
		{"0.0.0.0", unspecified},
		{"0.255.255.255", unspecified},
		{"1.0.0.0", NULL},
		{"126.255.255.255", NULL},
		{"127.0.0.0", loopback},
		{"127.255.255.255", loopback},
		{"128.0.0.0", NULL},
		{"10.0.0.1", NULL},
		{"169.253.255.255", NULL},
		{"169.254.0.0", link_local},
		{"169.254.169.254", link_local},
		{"169.254.255.255", link_local},
		{"169.255.0.0", NULL},
		{"223.255.255.255", NULL},
		{"224.0.0.0", multicast},
		{"239.255.255.255", multicast},
		{"240.0.0.0", NULL},
		{"255.255.255.254", NULL},
		{"255.255.255.255", broadcast},
		{"::", unspecified},
		{"::1", loopback},
		{"::2", NULL},
		{"2001:db8::1", NULL},
		{"fd00::1", NULL},
		{"fe7f::1", NULL},
		{"fe80::", link_local},
		{"febf:ffff::1", link_local},
		{"fec0::", NULL},
		{"feff::1", NULL},
		{"ff00::", multicast},
		{"ffff::1", multicast},
		{"::ffff:127.0.0.1", loopback},
		{"::ffff:169.254.169.254", link_local},
	};
	const struct admission admission = {0};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct endpoint endpoint = endpoint_of(cases[i].address, 80);
		const char *reason = admission_refuses(&admission, &endpoint);

		if (!cases[i].reason)
			assert_null(reason);
		else
			assert_string_equal(reason, cases[i].reason);
	}
}

static void test_admission_with_prefixes_admits_just_those(void **state)
{
	static const struct {
		const char *list, *address;
		bool admitted;
	} cases[] = {
		{"10.0.0.0/8", "10.255.255.255", true},
		{"10.0.0.0/8", "11.0.0.0", false},
		{"10.0.0.0/8", "2001:db8::1", false},
		{"10.9.8.7/8", "10.0.0.1", true},
		{"10.0.0.0/9", "10.127.255.255", true},
		{"10.0.0.0/9", "10.128.0.0", false},
		{"10.0.0.4/31", "10.0.0.5", true},
		{"10.0.0.4/31", "10.0.0.6", false},
		{"10.0.0.4", "10.0.0.4", true},
		{"10.0.0.4", "10.0.0.5", false},
		{"127.0.0.0/8", "127.0.0.1", true},
		{"169.254.0.0/16,10.0.0.0/8", "169.254.169.254", true},
		{"169.254.0.0/16 , 10.0.0.0/8", "10.1.2.3", true},
		{"0.0.0.0/0", "127.0.0.1", true},
		{"0.0.0.0/0", "::1", false},
		{"::/0", "::1", true},
		{"::/0", "10.0.0.1", false},
		{"2001:db8::/33", "2001:db8:7fff::1", true},
		{"2001:db8::/33", "2001:db8:8000::1", false},
		{"::1", "::1", true},
		{"::ffff:10.0.0.0/104", "10.7.0.1", true},
		{"::ffff:10.0.0.0/104", "11.7.0.1", false},
		{"::ffff:10.0.0.1", "10.0.0.1", true},
		{"::ffff:0.0.0.0/96", "200.0.0.1", true},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		CLEANUP(admission_done) struct admission admission = {0};
		struct endpoint endpoint = endpoint_of(cases[i].address, 80);
		const char *reason;
		size_t column;

		assert_int_equal(admission_parse(&admission, cases[i].list, &column), 0);
		reason = admission_refuses(&admission, &endpoint);
		if (cases[i].admitted)
			assert_null(reason);
		else
			assert_string_equal(reason, "not in --allow-endpoints");
	}
}

static void test_admission_parse_of_a_bad_item_tells_its_column(void **state)
{
	static const struct {
		const char *list;
		size_t column;
	} cases[] = {
		{"", 1},
		{"fury", 1},
		{"10.0.0.0/33", 1},
		{"10.0.0.0/", 1},
		{"10.0.0.0/-1", 1},
		{"10.0.0.0/8/8", 1},
		{"10.0.0.0/99999999999999999999", 1},
		{"/8", 1},
		{"10/8", 1},
		{"::/129", 1},
		{"::ffff:10.0.0.0/95", 1},
		{"10.0.0.0/8,", 12},
		{",10.0.0.0/8", 1},
		{"10.0.0.0/8, x ,::1", 13},
		{"10.0.0.0/8,::1,1.2.3", 16},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		CLEANUP(admission_done) struct admission admission = {0};
		size_t column = 0;

		assert_int_equal(admission_parse(&admission, "192.0.2.0/24", &column), 0);
		assert_int_equal(admission_parse(&admission, cases[i].list, &column), -EINVAL);
		assert_int_equal(column, cases[i].column);
		assert_int_equal(admission.count, 1);
	}
}

static void test_admission_parse_again_adds(void **state)
{
	CLEANUP(admission_done) struct admission admission = {0};
	struct endpoint first = endpoint_of("10.0.0.1", 1), second = endpoint_of("127.0.0.1", 1);
	size_t column;

	(void)state;
	assert_int_equal(admission_parse(&admission, "10.0.0.0/8,11.0.0.0/8", &column), 0);
	assert_int_equal(admission_parse(&admission, "127.0.0.1", &column), 0);
	assert_int_equal(admission.count, 3);
	assert_null(admission_refuses(&admission, &first));
	assert_null(admission_refuses(&admission, &second));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_endpoint_parse_address_of_literals_is_canonical),
		cmocka_unit_test(test_endpoint_parse_address_of_mapped_is_the_same_bytes),
		cmocka_unit_test(test_endpoint_parse_address_of_else_is_refused),
		cmocka_unit_test(test_endpoint_parse_address_with_nul_is_refused),
		cmocka_unit_test(test_endpoint_compare_orders_family_address_port),
		cmocka_unit_test(test_listen_compare_orders_port_then_protocol),
		cmocka_unit_test(test_listen_format_shows_localhost),
		cmocka_unit_test(test_protocol_parse_of_any_case_is_known),
		cmocka_unit_test(test_admission_by_default_refuses_what_no_service_has),
		cmocka_unit_test(test_admission_with_prefixes_admits_just_those),
		cmocka_unit_test(test_admission_parse_of_a_bad_item_tells_its_column),
		cmocka_unit_test(test_admission_parse_again_adds),
	};

	return cmocka_run_group_tests_name("endpoint", tests, NULL, NULL);
}
