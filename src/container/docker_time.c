/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <string.h>
#include <time.h>

#include "docker_codec.h"
#include "dragoman/base/text.h"

/*
 * Theory of operation
 *
 * RFC 3339, as Go writes it: up to nine digits behind the point, "Z" or an
 * offset. A clock's reading from before 1970, and Go's year 1 that stands for
 * "never", are 0: nobody needs to tell them apart.
 */

enum { NANOSECONDS = 1000 * 1000 * 1000, YEAR_MAX = 2500 };

/* Digits at *text, which moves behind them and the character that has to follow (0: any). */
static int digits(const char **text, size_t count, uint64_t max, char behind, int *ret)
{
	uint64_t number;

	if (strnlen(*text, count) < count || text_parse_number(*text, count, max, &number) < 0 ||
	    (behind && (*text)[count] != behind))
		return -EINVAL;
	*text += count + (behind != '\0');
	*ret = (int)number;
	return 0;
}

static int parse_fraction(const char **text, uint64_t *ret)
{
	size_t length;

	*ret = 0;
	if (**text != '.')
		return 0;
	++*text;
	length = strspn(*text, "0123456789");
	if (length > 9 || text_parse_number(*text, length, NANOSECONDS, ret) < 0)
		return -EINVAL;
	*text += length;
	for (; length < 9; length++)
		*ret *= 10;
	return 0;
}

static int parse_offset(const char **text, time_t *ret_seconds)
{
	int hours, minutes, sign = **text == '-' ? -1 : 1;

	*ret_seconds = 0;
	if (**text == 'Z' || **text == 'z') {
		++*text;
		return 0;
	}
	if (**text != '+' && **text != '-')
		return -EINVAL;
	++*text;
	if (digits(text, 2, 23, ':', &hours) < 0 || digits(text, 2, 59, '\0', &minutes) < 0)
		return -EINVAL;
	*ret_seconds = (time_t)sign * (hours * 60 + minutes) * 60;
	return 0;
}

int docker_parse_time(const char *text, uint64_t *ret)
{
	struct tm date = {0};
	uint64_t fraction;
	time_t offset, seconds;

	if (!text || digits(&text, 4, 9999, '-', &date.tm_year) < 0 ||
	    digits(&text, 2, 12, '-', &date.tm_mon) < 0 ||
	    digits(&text, 2, 31, 'T', &date.tm_mday) < 0 ||
	    digits(&text, 2, 23, ':', &date.tm_hour) < 0 ||
	    digits(&text, 2, 59, ':', &date.tm_min) < 0 ||
	    digits(&text, 2, 60, '\0', &date.tm_sec) < 0 || parse_fraction(&text, &fraction) < 0 ||
	    parse_offset(&text, &offset) < 0 || *text != '\0')
		return -EINVAL;
	if (date.tm_mon == 0 || date.tm_mday == 0 || date.tm_year > YEAR_MAX)
		return -EINVAL;
	date.tm_year -= 1900;
	date.tm_mon -= 1;
	seconds = timegm(&date) - offset;
	*ret = seconds < 0 ? 0 : (uint64_t)seconds * NANOSECONDS + fraction;
	return 0;
}

int docker_parse_http_date(const char *text, uint64_t *ret)
{
	static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
	struct tm date = {0};
	const char *month;
	time_t seconds;

	/* The day of the week, a comma and a blank are five bytes. */
	if (!text || strnlen(text, 29) < 29)
		return -EINVAL;
	text += 5;
	if (digits(&text, 2, 31, ' ', &date.tm_mday) < 0)
		return -EINVAL;
	month = memmem(months, sizeof(months) - 1, text, 3);
	if (!month || (month - months) % 3 != 0 || text[3] != ' ')
		return -EINVAL;
	date.tm_mon = (int)(month - months) / 3;
	text += 4;
	if (digits(&text, 4, YEAR_MAX, ' ', &date.tm_year) < 0 ||
	    digits(&text, 2, 23, ':', &date.tm_hour) < 0 ||
	    digits(&text, 2, 59, ':', &date.tm_min) < 0 ||
	    digits(&text, 2, 60, ' ', &date.tm_sec) < 0 || strcmp(text, "GMT") != 0)
		return -EINVAL;
	date.tm_year -= 1900;
	seconds = timegm(&date);
	if (seconds < 0)
		return -EINVAL;
	*ret = (uint64_t)seconds;
	return 0;
}
